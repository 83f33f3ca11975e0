from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.convert.checkpoint import Tensor, open_tensors
from plm_edge.convert.hf_config import HfConfig, read_config
from plm_edge.convert.plan import make_plan
from plm_edge.errors import InputError
from tests.convert.samples import TINY, make_checkpoint

Loaded = tuple[HfConfig, dict[str, Tensor]]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    folder = make_checkpoint(tmp_path / "tiny")
    return read_config(folder), open_tensors(folder)


def test_stock_layout_has_nine_tensors_a_layer(loaded: Loaded) -> None:
    plan = make_plan(*loaded, "stock", "f16")
    names = {output.name: output for output in plan.outputs}
    assert len(names) == 2 + 9 * TINY.num_hidden_layers
    assert names["blk.1.attn_kv_b.weight"].shape == (256, 32)
    assert names["blk.0.ffn_down.weight"].shape == (64, 256)
    assert names["blk.0.attn_kv_a_norm.weight"].type == "f32"
    assert plan.parameters == TINY.parameters


def test_edge_layout_splits_heads_and_turns_ffn_down(loaded: Loaded) -> None:
    plan = make_plan(*loaded, "edge", "q8_0")
    names = {output.name: output for output in plan.outputs}
    assert len(names) == 2 + 10 * TINY.num_hidden_layers
    heads, rank = TINY.num_attention_heads, TINY.kv_lora_rank
    assert names["blk.1.attn_k_b.weight"].shape == (heads, rank, TINY.qk_nope_head_dim)
    assert names["blk.1.attn_v_b.weight"].shape == (heads, TINY.v_head_dim, rank)
    assert names["blk.0.ffn_down.weight"].shape == (256, 64)
    assert "blk.0.attn_kv_b.weight" not in names
    assert plan.parameters == TINY.parameters


def test_a_missing_tensor_is_named(loaded: Loaded) -> None:
    config, tensors = loaded
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(InputError, match=r"'model\.layers\.1\.mlp\.up_proj\.weight' is missing$"):
        make_plan(config, tensors, "edge", "f16")
    del tensors["model.norm.weight"]
    with pytest.raises(InputError, match="and 1 more"):
        make_plan(config, tensors, "edge", "f16")


def test_an_extra_tensor_is_named(loaded: Loaded) -> None:
    config, tensors = loaded
    tensors["model.layers.2.mlp.up_proj.weight"] = tensors["model.norm.weight"]
    with pytest.raises(InputError, match=r"'model\.layers\.2\..*' is not part of a PLM"):
        make_plan(config, tensors, "edge", "f16")


def test_a_misshapen_tensor_is_named_with_both_shapes(loaded: Loaded) -> None:
    config, tensors = loaded
    tensors["model.norm.weight"] = tensors["model.layers.0.self_attn.o_proj.weight"]
    with pytest.raises(InputError, match=r"has the shape \[64, 128\], expected \[64\]"):
        make_plan(config, tensors, "stock", "f16")


def test_tables_that_can_be_computed_are_ignored_by_name(loaded: Loaded) -> None:
    config, tensors = loaded
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    tensors[name] = tensors["model.norm.weight"]
    assert make_plan(config, tensors, "edge", "f16").ignored == (name,)


def test_rows_that_q8_0_cannot_hold_stay_f16_and_it_says_so(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "odd", replace(TINY, kv_lora_rank=40))
    plan = make_plan(read_config(folder), open_tensors(folder), "stock", "q8_0")
    names = {output.name: output for output in plan.outputs}
    assert names["blk.0.attn_kv_b.weight"].type == "f16"
    assert names["blk.0.attn_q.weight"].type == "q8_0"
    assert plan.notes == (
        "2 tensors stay f16: blk.0.attn_kv_b.weight has rows of 40, no multiple of q8_0's 32",
    )
