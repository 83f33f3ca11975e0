"""A file that was never made has the sizes of one that was."""

from __future__ import annotations

from pathlib import Path

from plm_edge.commands._recipe_header import plm_header
from plm_edge.convert.pipeline import convert
from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.gguf_header import read_header
from plm_edge.quantize import plan, recipe
from plm_edge.shape import PlmShape


def test_the_sizes_are_those_of_a_real_file(tmp_path: Path) -> None:
    shape = SHAPES["tiny"]
    write_checkpoint(tmp_path / "c", shape, seed=1)
    convert(tmp_path / "c", tmp_path / "m.gguf", layout="edge", type_name="f16")
    real = plan.make(read_header(tmp_path / "m.gguf"), recipe.find("q4"))
    found = plm_header("q4", shape)
    assert {t.name: (t.shape, t.type, t.size_bytes) for t in found.tensors} == {
        e.tensor.name: (e.tensor.shape, e.type, e.size_bytes) for e in real.tensors
    }
    assert found.layout == "edge"
    assert PlmShape.from_metadata(found.metadata, "m") == shape


def test_plm_has_1_8_billion_weights() -> None:
    found = plm_header("q4")
    assert sum(tensor.values for tensor in found.tensors) == PlmShape().parameters
