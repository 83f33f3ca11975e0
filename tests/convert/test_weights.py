from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plm_edge.convert.pipeline import convert, prepare
from plm_edge.errors import InputError
from tests.convert.samples import make_checkpoint, read_weights, save_weights

DOWN = "model.layers.1.mlp.down_proj.weight"
HEADS = "model.layers.0.self_attn.kv_b_proj.weight"
NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "tiny", dtype="f32")


def spoil(folder: Path, name: str, value: float, dtype: str) -> None:
    weights = read_weights(folder)
    weights[name].reshape(-1)[5] = value
    save_weights(folder / "model.safetensors", weights, dtype)


@pytest.mark.parametrize("name", [DOWN, HEADS, NORM, "model.embed_tokens.weight"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_a_nan_is_an_error_that_names_its_tensor(
    folder: Path, tmp_path: Path, name: str, dtype: str, layout: str
) -> None:
    spoil(folder, name, np.nan, dtype)
    target = tmp_path / "out" / "plm.gguf"
    with pytest.raises(InputError, match=rf"'{name}' holds .* \(1 NaN, 0 infinite in"):
        convert(folder, target, layout=layout)  # type: ignore[arg-type]
    assert list(target.parent.iterdir()) == []


def test_a_value_too_large_for_the_type_is_an_error_that_names_its_tensor(
    folder: Path, tmp_path: Path
) -> None:
    spoil(folder, DOWN, 70000.0, "f32")
    with pytest.raises(InputError, match=rf"'{DOWN}' holds values too large for f16") as caught:
        convert(folder, tmp_path / "out.gguf")
    assert caught.value.hint == "convert with --type bf16"
    convert(folder, tmp_path / "out.gguf", type_name="bf16")


def add_head(folder: Path, change: float = 0.0) -> None:
    weights = read_weights(folder)
    head = weights["model.embed_tokens.weight"].copy()
    head[-1, -1] += change
    save_weights(folder / "model.safetensors", {**weights, "lm_head.weight": head})


def test_a_head_saved_twice_is_left_out(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "without.gguf")
    add_head(folder)
    report = convert(folder, tmp_path / "with.gguf")
    assert report.ignored == ("lm_head.weight",)
    assert (tmp_path / "with.gguf").read_bytes() == (tmp_path / "without.gguf").read_bytes()


def test_an_untied_head_is_refused(folder: Path, tmp_path: Path) -> None:
    add_head(folder, change=1.0)
    job = prepare(folder, tmp_path / "out.gguf")
    with pytest.raises(InputError, match=r"'lm_head\.weight' differs from .*: .*a tied head"):
        job.run()
    assert not (tmp_path / "out.gguf").exists()
