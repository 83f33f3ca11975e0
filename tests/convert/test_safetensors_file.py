from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from plm_edge.convert.safetensors_file import HEADER_LIMIT_BYTES, read_tensors
from plm_edge.errors import InputError, PlmEdgeError


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    return {"dtype": dtype, "shape": plain(shape), "data_offsets": plain(offsets)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_reads_what_the_library_wrote(file: Path) -> None:
    arrays = {"b": np.ones((3, 4), np.float16), "a": np.arange(5, dtype=np.float32)}
    save_file(arrays, file, metadata={"format": "pt"})
    content = file.read_bytes()
    found = {tensor.name: tensor for tensor in read_tensors(file)}
    assert list(found) == ["a", "b"]
    for name, array in arrays.items():
        tensor = found[name]
        assert tensor.shape == array.shape
        data = content[tensor.offset : tensor.offset + tensor.size_bytes]
        assert data == array.tobytes()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(dtype="F31")}, "dtype = 'F31'"),
        ({"a": entry(dtype=None)}, "dtype = 'None'"),
        ({"a": entry(shape=(3,))}, r"8 bytes, but F32 of shape \[3\] needs 12"),
        ({"a": entry(shape=(-2,))}, "shape = "),
        ({"a": entry(shape=(2.0,))}, "shape = "),
        ({"a": entry(shape=(True, 2))}, "shape = "),
        ({"a": entry(shape="2")}, "shape = "),
        ({"a": entry(shape=(1,) * 9)}, "shape = "),
        ({"a": entry(shape=(1 << 62, 1 << 62))}, "needs"),
        ({"a": entry(offsets=(8, 0))}, "data_offsets = "),
        ({"a": entry(offsets=(0,))}, "data_offsets = "),
        ({"a": entry(offsets=(4, 12))}, "leaves a gap"),
        ({"a": entry(), "b": entry()}, "'b' overlaps"),
        ({"a": entry(), "b": entry(offsets=(8, 16))}, "ends inside tensor 'b'"),
        ({"a": entry(shape=(1,), offsets=(0, 4))}, "4 bytes behind the last tensor"),
        ({"a": {**entry(), "more": 1}}, "nothing else"),
        ({"a": 7}, "nothing else"),
        ([1, 2], "holds a list"),
        (b'{"a": {}, "a": {}}', "appears twice"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{" * 5000, "not valid JSON"),
    ],
)
def test_headers_that_lie_are_refused(file: Path, header: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_tensors(write(file, header, bytes(8)))
    assert "model.safetensors" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("length", [3, 1 << 40, (1 << 64) - 1, HEADER_LIMIT_BYTES + 1])
def test_a_header_length_that_lies_is_refused(file: Path, length: int) -> None:
    with pytest.raises(InputError, match=r"header|JSON"):
        read_tensors(write(file, {"a": entry()}, bytes(8), length=length))


def test_truncated_and_empty_files(file: Path) -> None:
    whole = write(file, {"a": entry()}, bytes(8)).read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"model\.safetensors"):
            read_tensors(file)


def test_a_tensor_without_values_is_fine(file: Path) -> None:
    write(file, {"a": entry(), "none": entry(shape=(0, 3), offsets=(8, 8))}, bytes(8))
    assert [tensor.name for tensor in read_tensors(file)] == ["a", "none"]


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_bit_flip_crashes_the_reader(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = {"a": entry(), "b": entry(dtype="BF16", shape=(2, 2), offsets=(8, 16))}
    content = bytearray(write(path, header, bytes(16)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for tensor in read_tensors(path):
            assert tensor.offset + tensor.size_bytes <= len(content)
    except PlmEdgeError as error:
        assert "\n" not in error.message


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300))
def test_no_bytes_crash_the_reader(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    try:
        read_tensors(path)
    except PlmEdgeError as error:
        assert "\n" not in error.message
