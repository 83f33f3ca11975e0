"""Folders round-trip bit for bit, and weights that do not fit are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")

from safetensors.torch import load_file, save_file  # noqa: E402

from plm_edge import resources  # noqa: E402
from plm_edge.commands.train import load_recipe  # noqa: E402
from plm_edge.errors import InputError  # noqa: E402
from plm_edge.model import checkpoint, plm  # noqa: E402
from plm_edge.model.dataset import read_tokenizer  # noqa: E402
from plm_edge.model.reference import Reference  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402

TINY = PlmShape(64, 2, 4, 32, 16, 8, 24, 128, 96, 256, 10000.0, 1e-6)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A bf16 checkpoint of a tiny model, in a folder with a space and an accent."""
    model = plm.PlmModel(TINY)
    model.initialize(5)
    folder = tmp_path / "a föld er"
    checkpoint.save(model.to(torch.bfloat16), folder, extra={"eos_token_id": 3})
    return folder


def test_a_checkpoint_round_trips_bit_for_bit(saved: Path, tmp_path: Path) -> None:
    model = checkpoint.load(saved)
    assert model.shape == TINY
    checkpoint.save(model, tmp_path / "again", extra={"eos_token_id": 3})
    for name in (checkpoint.WEIGHTS, checkpoint.CONFIG):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()
    config = json.loads((saved / checkpoint.CONFIG).read_text(encoding="utf-8"))
    assert (config["torch_dtype"], config["eos_token_id"]) == ("bfloat16", 3)


def test_tokenizer_files_are_copied(saved: Path, tmp_path: Path) -> None:
    (saved / "tokenizer.json").write_text("{}", encoding="utf-8")
    checkpoint.copy_tokenizer(saved, tmp_path / "copy")
    assert (tmp_path / "copy" / "tokenizer.json").read_text(encoding="utf-8") == "{}"


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    weights = load_file(folder / checkpoint.WEIGHTS)
    if tensor is None:
        del weights[name]
    else:
        weights[name] = tensor
    save_file(weights, folder / checkpoint.WEIGHTS)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("model.norm.weight", None, "tensor model.norm.weight is missing"),
        ("model.norm.weight", torch.ones(3), r"model.norm.weight is \(3,\), expected \(64,\)"),
        ("lm_head.weight", torch.ones(3), "tensor lm_head.weight is not part of a PLM"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    saved: Path, name: str, tensor: torch.Tensor | None, message: str
) -> None:
    change(saved, name, tensor)
    with pytest.raises(InputError, match=message):
        checkpoint.load(saved)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}"])
def test_broken_weights_are_an_input_error(saved: Path, content: bytes) -> None:
    (saved / checkpoint.WEIGHTS).write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        checkpoint.load(saved)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"hidden_size": -1}'])
def test_a_broken_config_is_an_input_error(saved: Path, content: str) -> None:
    (saved / checkpoint.CONFIG).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json"):
        checkpoint.load(saved)


SHIPPED = Path(__file__).parents[2] / "models" / "plm-nano"


def test_the_shipped_model_is_the_recipes_and_small_enough() -> None:
    recipe = load_recipe(resources.find("training", "nano"))
    model = checkpoint.load(SHIPPED)
    assert model.shape == recipe.shape
    assert next(model.parameters()).dtype == torch.bfloat16
    assert (SHIPPED / checkpoint.WEIGHTS).stat().st_size <= 16 << 20
    assert "plm_edge_random" not in checkpoint.read_config(SHIPPED)
    words = "def main(self):\n    return self._"
    ids = read_tokenizer(SHIPPED).encode(words, add_special_tokens=False).ids
    trained = model.float()(torch.tensor([ids]))[0].log_softmax(-1).detach()
    # far better than the 8.3 nats of knowing nothing, on text it has not seen as such
    losses = [-float(trained[i, token]) for i, token in enumerate(ids[1:])]
    assert sum(losses) / len(losses) < 5


def test_the_shipped_model_in_float32_agrees_with_the_float64_reference() -> None:
    ids = read_tokenizer(SHIPPED).encode("Return a list of names.", add_special_tokens=False).ids
    wanted = Reference.from_checkpoint(SHIPPED).logits(ids)
    got = checkpoint.load(SHIPPED).float()(torch.tensor([ids]))[0].detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
