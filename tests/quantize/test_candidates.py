"""Every matrix gets formats its rows are whole blocks of, and sizes are right to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.errors import InputError
from plm_edge.gguf_header import read_header
from plm_edge.quantize import candidates as finding
from plm_edge.quantize import plan as planning
from plm_edge.quantize.recipe import Recipe
from tests.quantize.tiny import SHAPE, write_model


def test_narrow_rows_get_formats_of_32(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    found = {one.tensor.name: one.types for one in finding.find(header)}
    wide = ("q2_K", "q3_K", "q4_0", "q4_K", "q5_K", "q6_K", "q8_0", "f16")
    assert found["blk.0.ffn_up.weight"] == wide
    assert found["blk.0.attn_k_b.weight"] == ("q4_0", "q5_0", "q8_0", "f16")
    assert len(found) == 3 * 7 + 1 and "output_norm.weight" not in found


@pytest.mark.parametrize("kind", ["q4_0", "q8_0"])
def test_the_rest_and_the_matrices_make_the_whole_file(tmp_path: Path, kind: str) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    found = finding.find(header)
    total = finding.fixed_bytes(header, found, {}) + sum(one.size_bytes(kind) for one in found)
    assert total == planning.make(header, Recipe("", kind)).file_bytes


def test_formats_that_are_none_are_refused(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    for name in ("q9", "f32"):
        with pytest.raises(InputError, match=f"type '{name}': expected one of f16, bf16, q8_0"):
            finding.find(header, [name])
    with pytest.raises(InputError, match="types f16: expected one of fewer than 16 bits"):
        finding.find(header, ["f16"])


def test_rows_that_fit_nothing_are_named(tmp_path: Path) -> None:
    shape = replace(SHAPE, hidden_size=48)
    header = read_header(write_model(tmp_path / "m.gguf", shape=shape))
    with pytest.raises(InputError, match=r"rows of .* are 48 values, no whole blocks"):
        finding.find(header)


def test_files_that_are_quantized_already_are_refused_at_once(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf", dtype="q8_0"))
    with pytest.raises(InputError, match="is q8_0; formats are searched for an f16 or f32 file"):
        finding.find(header)
