from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from plm_edge.convert.checkpoint import open_tensors
from plm_edge.errors import InputError, MissingToolError
from tests.convert.samples import make_checkpoint, read_weights, shard, write_raw

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "a checkpoint, größer", dtype="f32")


def test_every_tensor_reads_back_in_pieces(folder: Path) -> None:
    tensors, weights = open_tensors(folder), read_weights(folder)
    assert list(tensors) == sorted(weights)
    for name, weight in weights.items():
        tensor, flat = tensors[name], weight.reshape(-1)
        assert (tensor.shape, tensor.dtype) == (weight.shape, "f32")
        half = flat.size // 2
        assert np.array_equal(tensor.read(half, 7).view(np.float32), flat[half : half + 7])


def test_shards_are_one_checkpoint(folder: Path) -> None:
    weights = read_weights(folder)
    shard(folder)
    tensors = open_tensors(folder)
    assert set(tensors) == set(weights)
    name = "model.layers.1.mlp.up_proj.weight"
    whole = tensors[name].read(0, weights[name].size).view(np.float32)
    assert np.array_equal(whole, weights[name].reshape(-1))


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00003\.safetensors: the index names it"):
        open_tensors(folder)


def change_index(folder: Path, **changes: object) -> None:
    table = json.loads((folder / INDEX).read_text())
    table["weight_map"] |= changes
    (folder / INDEX).write_text(json.dumps(table))


def test_a_tensor_missing_from_its_shard_is_named(folder: Path) -> None:
    shard(folder)
    change_index(folder, more="model-00001-of-00003.safetensors")
    with pytest.raises(InputError, match="'more' of the index is not in it"):
        open_tensors(folder)


def test_a_tensor_missing_from_the_index_is_named(folder: Path) -> None:
    shard(folder)
    table = json.loads((folder / INDEX).read_text())
    del table["weight_map"]["model.norm.weight"]
    (folder / INDEX).write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"'model\.norm\.weight' is in the files but not"):
        open_tensors(folder)


@pytest.mark.parametrize("part", ["../other.safetensors", "/etc/passwd", "..", "", 7])
def test_an_index_cannot_lead_out_of_the_folder(folder: Path, part: object) -> None:
    shard(folder)
    change_index(folder, **{"model.norm.weight": part})
    with pytest.raises(InputError, match="is said to be in"):
        open_tensors(folder)


def test_the_same_tensor_in_two_files_is_refused(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "model-2.safetensors")
    with pytest.raises(InputError, match="is in another file too"):
        open_tensors(folder)


def test_an_integer_tensor_is_refused_by_name(folder: Path) -> None:
    write_raw(folder / "model.safetensors", {"a": ("I8", [4], b"abcd")})
    with pytest.raises(InputError, match="'a' is I8, expected BF16, F16 or F32"):
        open_tensors(folder)


def test_a_folder_without_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        open_tensors(folder)


def test_a_file_that_shrinks_meanwhile_is_an_error(folder: Path) -> None:
    tensor = open_tensors(folder)["model.norm.weight"]
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"ends inside tensor 'model\.norm\.weight'"):
        tensor.read(0, 64)


def test_without_torch_a_bin_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingToolError, match="needs torch") as caught:
        open_tensors(folder)
    assert caught.value.hint == "pip install 'plm-edge[torch]'"
