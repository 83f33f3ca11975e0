from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plm_edge import gguf_header
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.gguf_header import read_header


def write_sample(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "plm")
    writer.add_name("sample")
    writer.add_block_count(2)
    writer.add_bool("plm_edge.random", True)
    writer.add_array("tokenizer.ggml.tokens", ["a", "é", "<|im_end|>"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    writer.add_tensor("norm", np.arange(5, dtype=np.float32))
    q8 = gguf.quants.quantize(np.ones((3, 64), np.float32), GGMLQuantizationType.Q8_0)
    writer.add_tensor("weight", q8, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample.gguf")


def test_reads_what_the_gguf_library_wrote(sample: Path) -> None:
    header = read_header(sample)
    assert header.architecture == "plm"
    assert header.metadata["plm.block_count"] == 2
    assert header.metadata["plm_edge.random"] is True
    assert header.metadata["tokenizer.ggml.tokens"] == ["a", "é", "<|im_end|>"]
    assert header.values["tokenizer.ggml.token_type"].item_type == gguf_header.I32
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(sample).tensors}
    assert header.by_name["weight"].type == "q8_0"
    assert header.by_name["weight"].shape == (3, 64)
    for ours in header.tensors:
        assert ours.offset == theirs[ours.name].data_offset
        assert ours.size_bytes == theirs[ours.name].n_bytes


def test_tensor_types_agree_with_the_gguf_library() -> None:
    for kind, sizes in GGML_QUANT_SIZES.items():
        name, *ours = gguf_header.TENSOR_TYPES[int(kind)]
        assert (name.upper(), *ours) == (kind.name.upper(), *sizes)


def test_every_truncation_is_one_sentence_that_names_the_file(sample: Path) -> None:
    whole = sample.read_bytes()
    last = max(t.offset + t.size_bytes for t in read_header(sample).tensors)
    for length in range(last):
        sample.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"sample\.gguf: ") as caught:
            read_header(sample)
        assert "\n" not in caught.value.message


def patched(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"GGUF", b"GGML", "not a GGUF file"),
        (b"GGUF\x03\0\0\0", b"GGUF\x09\0\0\0", "version 9"),
        (b"\x03\0\0\0" + struct.pack("<Q", 2), b"\x03\0\0\0" + b"\xff" * 8, "tensors, expected"),
        (text("norm"), struct.pack("<Q", 1 << 62) + b"norm", "a name of"),
        (text("norm") + b"\x01\0\0\0", text("norm") + b"\x09\0\0\0", "9 dimensions"),
        (
            struct.pack("<IQ", 8, 3) + text("a"),
            struct.pack("<IQ", 8, 1 << 60) + text("a"),
            "claims .* items",
        ),
        (text("plm.block_count") + b"\x04", text("plm.block_count") + b"\x63", "unknown type 99"),
    ],
)
def test_lies_are_refused(sample: Path, old: bytes, new: bytes, message: str) -> None:
    patched(sample, old, new)
    with pytest.raises(InputError, match=message):
        read_header(sample)


def test_a_tensor_twice_or_over_another_is_refused(tmp_path: Path) -> None:
    info = text("same") + struct.pack("<IQIQ", 1, 8, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 0)
    path = tmp_path / "twice.gguf"
    path.write_bytes(head + info + info + bytes(200))
    with pytest.raises(InputError, match="'same' appears twice"):
        read_header(path)
    other = text("else") + struct.pack("<IQIQ", 1, 8, 0, 0)
    path.write_bytes(head + info + other + bytes(200))
    with pytest.raises(InputError, match="overlaps"):
        read_header(path)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_header(tmp_path / "absent.gguf")
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(InputError, match="is empty"):
        read_header(tmp_path / "empty.gguf")
    assert not gguf_header.is_gguf(tmp_path / "empty.gguf")
    assert not gguf_header.is_gguf(tmp_path)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_bit_flip_crashes_the_reader(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_sample(tmp_path_factory.mktemp("fuzz") / "sample.gguf")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read_header(path)
    except PlmEdgeError as error:
        assert "\n" not in error.message


def test_layout_and_label_are_read_from_their_keys(sample: Path) -> None:
    header = read_header(sample)
    assert header.is_random
    assert header.layout == "stock"


def test_other_architecture_and_missing_tensor_are_named(sample: Path) -> None:
    with pytest.raises(InputError, match="architecture is 'plm', expected 'llama'"):
        read_header(sample).require_architecture("llama")
    with pytest.raises(InputError, match="has no tensor 'absent'"):
        read_header(sample).tensor("absent")


def test_cut_anywhere_is_refused(sample: Path, tmp_path: Path) -> None:
    content = sample.read_bytes()
    last = read_header(sample).tensors[-1]
    cut = tmp_path / "cut.gguf"
    for length in range(0, last.offset + last.size_bytes, 5):
        cut.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.gguf"):
            read_header(cut)
