from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plm_edge.convert.hf_config import read_config
from plm_edge.errors import InputError, PlmEdgeError

CONFIG: dict[str, Any] = {
    "architectures": ["PLMForCausalLM"],
    "model_type": "plm",
    "hidden_act": "relu2",
    "hidden_size": 64,
    "intermediate_size": 256,
    "kv_lora_rank": 32,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "v_head_dim": 32,
    "vocab_size": 512,
}


def write(folder: Path, **changes: Any) -> Path:
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value != "DROP"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_good_config_is_read(tmp_path: Path) -> None:
    config = read_config(write(tmp_path))
    assert config.shape.num_hidden_layers == 2
    assert not config.is_random
    assert read_config(write(tmp_path, plm_edge_random=True)).is_random


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "DROP"}, "hidden_size is missing"),
        ({"hidden_size": -64}, "hidden_size = -64"),
        ({"hidden_size": "64"}, "hidden_size = '64'"),
        ({"hidden_size": 64.5}, "hidden_size = 64.5"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers = 1000000000000"),
        ({"num_hidden_layers": True}, "num_hidden_layers = True"),
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0"),
        ({"rope_theta": float("inf")}, "rope_theta = inf"),
        ({"qk_rope_head_dim": 33}, "an even number"),
        ({"architectures": []}, r"architectures = \[\]"),
        ({"architectures": ["LlamaForCausalLM"]}, "'LlamaForCausalLM', expected PLMForCausalLM"),
        ({"num_key_value_heads": 2}, "num_key_value_heads = 2, expected 4"),
        ({"tie_word_embeddings": False}, "a tied head"),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "positions are not scaled"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "positions are not scaled"),
        ({"rope_parameters": []}, "rope_parameters = "),
        ({"rope_theta": "DROP", "rope_parameters": {}}, "rope_theta is missing"),
        ({"q_lora_rank": 1536}, "q_lora_rank = 1536: .*not compressed"),
        ({"attention_bias": True}, "no biases in attention"),
        ({"hidden_act": "silu"}, "hidden_act = 'silu': .*squared ReLU"),
        ({"quantization_config": {"quant_method": "gptq"}}, "convert the original"),
    ],
)
def test_what_the_engine_cannot_run_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_config(write(tmp_path, **changes))
    assert "config.json" in caught.value.message
    assert "\n" not in caught.value.message


def test_newer_configs_nest_the_rope_base(tmp_path: Path) -> None:
    nested = {"rope_type": "default", "rope_theta": 5000.0}
    config = read_config(write(tmp_path, rope_theta="DROP", rope_parameters=nested))
    assert config.shape.rope_theta == 5000.0


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        read_config(tmp_path)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.dictionaries(st.sampled_from([*CONFIG, "rope_parameters"]), JUNK, max_size=3))
def test_no_value_crashes_the_reader(tmp_path: Path, changes: dict[str, Any]) -> None:
    try:
        read_config(write(tmp_path, **changes))
    except PlmEdgeError as error:
        assert "\n" not in error.message
