"""`pytorch_model.bin`, where torch is installed: read in pieces, never run, never guessed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from plm_edge.convert.checkpoint import open_tensors
from plm_edge.convert.pipeline import convert
from plm_edge.errors import InputError
from tests.convert.samples import make_checkpoint, read_weights

BIN = "pytorch_model.bin"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "tiny", dtype="f32")


def to_bin(folder: Path, dtype: str = "f32") -> dict[str, torch.Tensor]:
    weights = read_weights(folder)
    tensors = {name: torch.from_numpy(w).to(DTYPES[dtype]) for name, w in sorted(weights.items())}
    torch.save(tensors, folder / BIN)
    (folder / "model.safetensors").unlink()
    return tensors


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_read_back_and_again_after_their_pages_were_dropped(
    folder: Path, dtype: str
) -> None:
    originals = to_bin(folder, dtype)
    for name, tensor in open_tensors(folder).items():
        assert (tensor.dtype, tensor.shape) == (dtype, tuple(originals[name].shape))
        count = originals[name].numel()
        expected = originals[name].flatten().view(torch.uint8).numpy()
        for _ in range(2):
            assert np.array_equal(tensor.read(0, count).view(np.uint8), expected)
        part = tensor.read(count // 2, 3).view(np.uint8)
        start = count // 2 * originals[name].element_size()
        assert np.array_equal(part, expected[start : start + len(part)])


def test_a_bin_and_a_safetensors_make_the_same_file(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "one.gguf")
    to_bin(folder)
    convert(folder, tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


class Harmful:
    """What a pickle can do: run a command when it is read."""

    def __reduce__(self) -> object:
        return os.system, ("echo run > harmed",)


def test_code_in_a_file_is_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_bin(folder)
    torch.save({"model.norm.weight": Harmful()}, folder / BIN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"pytorch_model\.bin: torch cannot read it as weights"):
        open_tensors(folder)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", pickle.dumps({"a": 1})])
def test_a_broken_file_is_named_in_one_line(folder: Path, content: bytes) -> None:
    to_bin(folder)
    (folder / BIN).write_bytes(content)
    with pytest.raises(InputError, match=r"pytorch_model\.bin: ") as caught:
        open_tensors(folder)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "holds a list"),
        ({"a": 3}, "'a' is no tensor"),
        ({"a": torch.ones(2, dtype=torch.int8)}, "'a' is torch.int8, expected bfloat16"),
        ({"a": torch.ones(2, 3).T}, "'a' is a view with strides"),
        ({"a": torch.ones(1).expand(1 << 40)}, "'a' is a view with strides"),
    ],
)
def test_what_is_no_weight_is_named(folder: Path, value: object, message: str) -> None:
    to_bin(folder)
    torch.save(value, folder / BIN)
    with pytest.raises(InputError, match=message):
        open_tensors(folder)
