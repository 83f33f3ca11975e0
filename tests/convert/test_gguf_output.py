from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType, GGUFValueType

from plm_edge.convert.gguf_output import Output, array, boolean, f32, lay_out, string, u32
from plm_edge.errors import InputError
from plm_edge.gguf_header import BOOL, F32, I32, STRING, U8, GgufValue, read_header


def theirs(path: Path) -> bytes:
    writer = gguf.GGUFWriter(path, "plm")
    writer.add_name("ein Größeres 模型")
    writer.add_block_count(3)
    writer.add_rope_freq_base(1e5)
    writer.add_bool("plm_edge.random", True)
    writer.add_array("words", ["a", "", "é\n"])
    writer.add_array("numbers", [1, -2])
    writer.add_array("floats", [0.5, 1.25])
    writer.add_key_value("bytes", [1, 255], GGUFValueType.ARRAY, GGUFValueType.UINT8)
    writer.add_array("claims", [True, False])
    writer.add_tensor("norm", np.zeros(5, np.float32))
    q8 = gguf.quants.quantize(np.zeros((3, 64), np.float32), GGMLQuantizationType.Q8_0)
    writer.add_tensor("weight", q8, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.add_tensor("heads", np.zeros((2, 3, 4), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_the_header_is_byte_for_byte_the_gguf_librarys(tmp_path: Path) -> None:
    expected = theirs(tmp_path / "theirs.gguf")
    values = {
        "general.architecture": string("plm"),
        "general.name": string("ein Größeres 模型"),
        "plm.block_count": u32(3),
        "plm.rope.freq_base": f32(1e5),
        "plm_edge.random": boolean(True),
        "words": array(STRING, ["a", "", "é\n"]),
        "numbers": array(I32, [1, -2]),
        "floats": array(F32, [0.5, 1.25]),
        "bytes": array(U8, [1, 255]),
        "claims": array(BOOL, [True, False]),
    }
    outputs = [
        Output("norm", (5,), "f32"),
        Output("weight", (3, 64), "q8_0"),
        Output("heads", (2, 3, 4), "f16"),
    ]
    layout = lay_out(values, outputs)
    assert layout.header == expected[: len(layout.header)]
    assert layout.size_bytes == len(expected)


def test_the_alignment_of_the_metadata_is_kept(tmp_path: Path) -> None:
    outputs = [Output("a", (1,), "f32"), Output("b", (1,), "f32")]
    layout = lay_out({"general.alignment": u32(256)}, outputs)
    path = tmp_path / "aligned.gguf"
    path.write_bytes(layout.header + bytes(layout.size_bytes - len(layout.header)))
    header = read_header(path)
    assert {tensor.name: tensor.offset for tensor in header.tensors} == layout.offsets
    assert layout.offsets["b"] - layout.offsets["a"] == 256


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    cut = b"\xe4\xbd".decode("utf-8", "surrogateescape")
    layout = lay_out({"tokens": array(STRING, [cut])}, [])
    path = tmp_path / "cut.gguf"
    path.write_bytes(layout.header)
    assert read_header(path).metadata["tokens"] == [cut]


def test_text_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(InputError, match="no valid Unicode"):
        lay_out({"name": string("\ud800")}, [])


def test_an_array_needs_its_item_type() -> None:
    with pytest.raises(ValueError, match="without the type"):
        lay_out({"a": GgufValue(9, [1])}, [])
