"""PLM's dimensions, against the published figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from plm_edge.errors import InputError
from plm_edge.shape import GGUF_KEYS, PlmShape

PLM = PlmShape()


def test_plm_1_8b_has_its_published_parameter_count() -> None:
    assert PLM.parameters == 1_825_458_176
    assert PLM.parameters_per_layer == 47_321_600


def test_cache_bytes_match_the_published_arithmetic() -> None:
    assert PLM.cache_bytes_per_token("f16", latent=False) == 327_680
    assert PLM.cache_bytes_per_token("f16") == 36_864
    assert PLM.cache_bytes_per_token("q8_0") == 19_584
    assert PLM.full_kv_width == 16 * 320


def test_config_round_trips() -> None:
    assert PlmShape.from_config(asdict(PLM), "config.json") == PLM


def test_metadata_gives_the_same_shape() -> None:
    values = asdict(PLM)
    metadata: dict[str, Any] = {gguf: values[name] for name, gguf in GGUF_KEYS.items()}
    metadata["plm.attention.key_length"] = 192
    assert PlmShape.from_metadata(metadata, "x.gguf") == PLM


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", None, "hidden_size = None, expected a whole number"),
        ("hidden_size", "2048", "expected a whole number"),
        ("hidden_size", True, "expected a whole number"),
        ("hidden_size", 2048.0, "expected a whole number"),
        ("num_hidden_layers", -1, "num_hidden_layers = -1, expected 1 to"),
        ("num_attention_heads", 0, "expected 1 to"),
        ("vocab_size", 10**30, "expected 1 to"),
        ("qk_rope_head_dim", 63, "expected an even number"),
        ("rope_theta", float("nan"), "expected a positive finite number"),
        ("rope_theta", "x", "expected a number"),
        ("rms_norm_eps", float("inf"), "expected a positive finite number"),
        ("rms_norm_eps", 0, "expected a positive finite number"),
    ],
)
def test_absurd_values_are_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        PlmShape.from_config({**asdict(PLM), key: value}, "config.json")
    assert "config.json" in caught.value.message


def test_a_missing_key_is_named() -> None:
    config = asdict(PLM)
    del config["kv_lora_rank"]
    with pytest.raises(InputError, match=r"config\.json: kv_lora_rank is missing"):
        PlmShape.from_config(config, "config.json")
