from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plm_edge import resources
from plm_edge.convert import converter
from plm_edge.convert.converter import Dimension, Requirement, for_architecture
from plm_edge.errors import ConfigError, InputError, PlmEdgeError
from plm_edge.resources import Resource
from plm_edge.shape import GGUF_KEYS

SHIPPED = resources.shipped_root() / "converters" / "plm.toml"


def load_text(folder: Path, text: str) -> converter.Converter:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return converter.load(Resource("converters", "mine", path, "user"))


def test_every_shipped_converter_loads_and_resolves_on_plms_shape() -> None:
    config = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "num_attention_heads": 16,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "kv_lora_rank": 512,
        "intermediate_size": 8192,
    }
    for resource in resources.list_all("converters"):
        loaded = converter.load(resource)
        shapes = {rule.checkpoint: loaded.shape(rule, config) for rule in loaded.tensors}
        assert shapes["model.layers.{layer}.self_attn.q_proj.weight"] == (3072, 2048)
        assert shapes["model.layers.{layer}.self_attn.kv_a_proj_with_mqa.weight"] == (576, 2048)
        assert shapes["model.layers.{layer}.self_attn.kv_b_proj.weight"] == (4096, 512)
        assert shapes["model.layers.{layer}.mlp.down_proj.weight"] == (2048, 8192)


def test_it_writes_every_key_that_a_shape_is_read_from() -> None:
    keys = {key.gguf for key in for_architecture("plm", Path("x")).keys}
    assert set(GGUF_KEYS.values()) <= keys


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", "schema = 2"),
        ('gguf_architecture = "plm"', 'gguf_architectur = "plm"', "unknown key"),
        ('edge = "transpose"', 'edge = "mirror"', "expected one of"),
        ('edge = "transpose"', 'edge = "split-heads"', "two edge_names"),
        ('"blk.{layer}.ffn_up.weight"', '"ffn_up.weight"', "must both hold {layer}"),
        ('gguf = "plm.vocab_size"', 'gguf = "plm.block_count"', "appears twice"),
        ('value = "file-type"', "config = []", "needs config keys"),
        ('sum = ["v_head_dim"]', "sum = []", "sum is empty"),
        ("[[requires]]", "[requires]", "not valid TOML|expected a list"),
    ],
)
def test_a_broken_converter_is_named_with_its_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ConfigError, match=message) as caught:
        load_text(tmp_path, text.replace(old, new))
    assert "mine.toml" in caught.value.message


def test_a_converter_of_the_users_beats_the_shipped_one(own_folders: Path) -> None:
    folder = own_folders / "config" / "converters"
    folder.mkdir(parents=True)
    text = SHIPPED.read_text(encoding="utf-8").replace("PLMForCausalLM", "MyPlmForCausalLM")
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    assert for_architecture("MyPlmForCausalLM", Path("c")).architectures == ("MyPlmForCausalLM",)
    with pytest.raises(InputError, match=r"'LlamaForCausalLM', expected .*PLMForCausalLM"):
        for_architecture("LlamaForCausalLM", Path("c"))


def test_a_dimension_multiplies_and_sums() -> None:
    config = {"heads": 16, "nope": 128, "rope": 64}
    assert Dimension(("nope", "rope"), ("heads",)).size(config) == 3072


def test_a_requirement_tells_one_from_true() -> None:
    tied = Requirement("tied", (True,), "the head is tied")
    tied.check({}, "config.json")
    tied.check({"tied": None}, "config.json")
    tied.check({"tied": True}, "config.json")
    for value in (False, 1, "true", [True]):
        with pytest.raises(InputError, match=r"config\.json: tied = .*: the head is tied"):
            tied.check({"tied": value}, "config.json")
    with pytest.raises(InputError, match="tied = None"):
        Requirement("tied", (True,), "the head is tied", required=True).check({}, "config.json")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_change_of_the_file_crashes_the_loader(data: st.DataObject, tmp_path: Path) -> None:
    content = list(SHIPPED.read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from(["", "[", "]", '"', "=", "\n", "0", "é", "#", "{"]))
    try:
        load_text(tmp_path, "".join(content))
    except PlmEdgeError as error:
        assert "mine.toml" in error.message
