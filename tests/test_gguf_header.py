"""The GGUF header reader: what it reads, and that damage ends in one line, never in a crash."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, read_header


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small GGUF with every kind of value and three tensors."""
    path = tmp_path / "klein ü.gguf"
    writer = gguf.GGUFWriter(path, "plm")
    writer.add_uint32("plm.block_count", 2)
    writer.add_float32("plm.rope.freq_base", 100000.0)
    writer.add_bool("plm_edge.random", True)
    writer.add_string("plm.tensor_data_layout", "edge")
    writer.add_array("tokenizer.ggml.tokens", ["a", "ü", "🦜"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    writer.add_int64("x.long", -5)
    values = np.arange(96, dtype=np.float32).reshape(3, 32)
    writer.add_tensor("first", values)
    writer.add_tensor("second", values.astype(np.float16))
    quantized = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("third", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_reads_what_was_written(file: Path) -> None:
    header = read_header(file)
    assert header.architecture == "plm"
    assert header.layout == "edge"
    assert header.is_random
    assert header.metadata["plm.rope.freq_base"] == 100000.0
    assert header.metadata["tokenizer.ggml.tokens"] == ["a", "ü", "🦜"]
    assert header.metadata["tokenizer.ggml.token_type"] == [1, 1, 3]
    assert header.metadata["x.long"] == -5
    assert [(t.name, t.shape, t.type, t.size_bytes) for t in header.tensors] == [
        ("first", (32, 3), "F32", 384),
        ("second", (32, 3), "F16", 192),
        ("third", (32, 3), "Q8_0", 102),
    ]


def test_offsets_lead_to_the_values(file: Path) -> None:
    second = read_header(file).tensor("second")
    values = np.fromfile(file, np.float16, count=second.elements, offset=second.offset)
    assert values.tolist() == list(range(96))


def test_agrees_with_the_gguf_library(file: Path) -> None:
    ours, theirs = read_header(file), gguf.GGUFReader(file)
    assert set(ours.metadata) == {key for key in theirs.fields if not key.startswith("GGUF.")}
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (mine.name, mine.offset) == (other.name, other.data_offset)
        assert (mine.size_bytes, list(mine.shape)) == (other.n_bytes, other.shape.tolist())


def test_layout_is_stock_unless_said(tmp_path: Path) -> None:
    header = GgufHeader(tmp_path, 3, {}, (), 32, 0, 0)
    assert header.layout == "stock"
    assert not header.is_random


def test_other_architecture_is_named(file: Path) -> None:
    with pytest.raises(InputError, match="architecture is 'plm', expected 'llama'"):
        read_header(file).require_architecture("llama")


def test_missing_tensor_is_named(file: Path) -> None:
    with pytest.raises(InputError, match="has no tensor 'fourth'"):
        read_header(file).tensor("fourth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"GG", "not a GGUF file"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF file"),
        (b"GGUF\x01\x00\x00\x00" + bytes(100), "version is 1"),
        (b"GGUF\x00\x00\x00\x03" + bytes(100), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0) + bytes(99), "number of tensors is"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60) + bytes(99), "number of metadata keys is"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 40) + bytes(99), "length of a metadata key"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 99) + bytes(99), "value type 99"),
        (
            b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 0, 1 << 50) + bytes(9),
            "number of elements of k",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1) + bytes(99),
            "value type 9",
        ),
    ],
)
def test_headers_that_lie_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_header(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def one_tensor(path: Path, **changes: object) -> Path:
    """A GGUF with a single F32 tensor of 32 values, with parts replaced."""
    part = {"shape": (32,), "type": 0, "offset": 0, "alignment": 32, "data": bytes(128)}
    part |= changes
    shape = part["shape"]
    text = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    text += struct.pack("<Q17sII", 17, b"general.alignment", 4, part["alignment"])
    text += struct.pack(f"<Q1sI{len(shape)}Q", 1, b"t", len(shape), *shape)
    text += struct.pack("<IQ", part["type"], part["offset"])
    path.write_bytes(text + bytes(-len(text) % 32) + part["data"])
    return path


def test_the_unchanged_single_tensor_is_fine(tmp_path: Path) -> None:
    assert read_header(one_tensor(tmp_path / "t.gguf")).tensor("t").size_bytes == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": ()}, "0 dimensions"),
        ({"shape": (1,) * 5}, "5 dimensions"),
        ({"shape": (0,)}, "no zero"),
        ({"shape": (1 << 63, 1 << 63)}, "cut short"),
        ({"type": 250}, "type 250"),
        ({"type": 8, "shape": (33,)}, "rows of 33 values, expected a multiple of 32 for Q8_0"),
        ({"offset": 64}, "offset 64, expected 0"),
        ({"data": bytes(100)}, "cut short"),
        ({"alignment": 0}, "general.alignment = 0"),
        ({"alignment": 24}, "power of two"),
    ],
)
def test_tensors_that_lie_are_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_header(one_tensor(tmp_path / "t.gguf", **changes))


def test_absent_file_and_folder_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.gguf", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            read_header(path)


def reads_or_refuses(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        read_header(path)
    except InputError as error:
        assert error.message.startswith(str(path))
        return False
    return True


def test_cut_anywhere_is_refused(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    end = read_header(file).tensors[-1]
    for length in range(0, end.offset + end.size_bytes, 3):
        assert not reads_or_refuses(tmp_path / "cut.gguf", content[:length])


def test_flipped_bits_never_crash(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    numbers = random.Random(0)
    outcomes = set()
    for _ in range(800):
        damaged = bytearray(content)
        for _ in range(numbers.randint(1, 4)):
            damaged[numbers.randrange(len(content))] ^= 1 << numbers.randrange(8)
        outcomes.add(reads_or_refuses(tmp_path / "flipped.gguf", bytes(damaged)))
    assert outcomes == {True, False}
