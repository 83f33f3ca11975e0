"""The plan: types, fallbacks and refusals. Its size is compared with real files elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from plm_edge.errors import InputError
from plm_edge.gguf_header import read_header
from plm_edge.quantize import plan as planning
from plm_edge.quantize import recipe
from plm_edge.quantize.plan import Plan
from tests.quantize.tiny import SHAPE, write_model


def make(path: Path, name: str = "q4") -> Plan:
    return planning.make(read_header(path), recipe.find(name))


def types(plan: Plan) -> dict[str, str]:
    return {entry.tensor.name: entry.type for entry in plan.tensors}


def test_q4_has_a_deliberate_type_for_every_group(tmp_path: Path) -> None:
    found = types(make(write_model(tmp_path / "m.gguf")))
    assert found["token_embd.weight"] == "q6_K"
    assert found["blk.2.attn_k_b.weight"] == found["blk.0.attn_v_b.weight"] == "q8_0"
    assert found["blk.1.ffn_down.weight"] == found["blk.1.attn_q.weight"] == "q4_0"
    assert found["blk.1.attn_kv_a_norm.weight"] == found["output_norm.weight"] == "f32"


def test_groups_add_up_and_are_sorted(tmp_path: Path) -> None:
    plan = make(write_model(tmp_path / "m.gguf"), "q4-k")
    groups = plan.groups()
    sizes = [group.size_bytes for group in groups]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == sum(entry.size_bytes for entry in plan.tensors)
    assert sum(group.tensors for group in groups) == len(plan.tensors)
    down = next(group for group in groups if group.name == "ffn_down.weight")
    assert (down.tensors, down.type, down.bits_per_value) == (3, "q6_K", 6.5625)


def test_rows_too_narrow_fall_back_and_say_so(tmp_path: Path) -> None:
    shape = replace(SHAPE, hidden_size=96, qk_nope_head_dim=24)
    plan = make(write_model(tmp_path / "m.gguf", shape=shape), "q4-k")
    fallen = {group.name: (group.falls_back_from, group.type) for group in plan.groups()}
    assert fallen["ffn_up.weight"] == ("q4_K", "q8_0")
    assert fallen["attn_k_b.weight"] == ("q8_0", "f16")
    assert fallen["attn_v_b.weight"] == (None, "q8_0")


def test_only_matrices_are_touched() -> None:
    def touched(name: str, shape: tuple[int, ...]) -> bool:
        return planning.is_matrix_weight(gguf_tensor(name, shape))

    assert touched("blk.0.ffn_up.weight", (8, 32))
    assert touched("blk.0.attn_k_b.weight", (2, 1, 32))
    assert not touched("blk.0.ffn_norm.weight", (8, 32))
    assert not touched("blk.0.ffn_up.bias", (8, 32))
    assert not touched("blk.0.ffn_up.weight", (1, 1, 32))


def gguf_tensor(name: str, shape: tuple[int, ...]) -> planning.GgufTensor:
    return planning.GgufTensor(name, shape, "f16", 0, 0)


def test_what_is_quantized_already_is_found(tmp_path: Path) -> None:
    plan = make(write_model(tmp_path / "m.gguf", dtype="q8_0"))
    assert {entry.tensor.type for entry in plan.requantized} == {"q8_0"}
    # k_b and v_b are Q8_0 in both: copied, not quantized twice.
    assert not any("_b.weight" in entry.tensor.name for entry in plan.requantized)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", architecture="llama")
    with pytest.raises(InputError, match=r"m\.gguf: architecture 'llama', expected 'plm'"):
        make(path)


def test_another_alignment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "plm")
    writer.add_custom_alignment(64)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    with pytest.raises(InputError, match=r"general\.alignment = 64, expected 32"):
        make(path)
