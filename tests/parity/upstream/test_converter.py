"""Stock layout is what upstream's own converter writes: the same file, byte for byte.

Upstream runs from the pinned source. The files hold no tool name and no date, so nothing is left
out of the comparison; where they differ, keys and tensors are compared to say what does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from plm_edge import resources
from plm_edge.convert.pipeline import convert
from plm_edge.convert.pretokenizer import LLAMA3, QWEN35
from plm_edge.engine import source, upstream
from plm_edge.gguf_header import read_header
from tests.convert.samples import TINY, change_json, make_checkpoint, read_weights, shard
from tests.engine_fixtures import USER_CACHE

RUNNER = Path(__file__).with_name("run_upstream.py")

CARD = """---
license: other
license_name: plm-license
license_link: LICENSE.md
language:
- en
- no
- zh
tags: [chat, mla]
pipeline_tag: text-generation
library_name: transformers
base_model: PLM-Team/PLM-1.8B-Base
datasets:
- plm-team/scots
- https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu
model_creator: PLM Team
---
# PLM
"""
GENERATION = {
    "do_sample": True,
    "temperature": 0.6,
    "top_k": 20,
    "top_p": 0.8,
    "repetition_penalty": 1.05,
    "eos_token_id": [508, 510],
}

Change = Callable[[Path], object]


def plain(folder: Path) -> None:
    """The synthesized checkpoint as it is."""


def model_card(folder: Path) -> None:
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    change_json(folder / "config.json", lambda c: c.update(_name_or_path="PLM-Team/PLM-1.8B-v2.1"))


def card_without_yaml(folder: Path) -> None:
    (folder / "README.md").write_text("# PLM\n---\nlicense: mit\n---\n", encoding="utf-8")
    (folder / "generation_config.json").unlink()


def nested_rope(folder: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        theta = config.pop("rope_theta")
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
        del config["num_key_value_heads"]
        config["eos_token_id"] = [508, 510]

    change_json(folder / "config.json", change)


def template_file(folder: Path) -> None:
    change_json(folder / "tokenizer_config.json", lambda c: c.pop("chat_template"))
    text = "{%- for m in messages %}{{ m.content }}\r\n{% endfor %}"
    (folder / "chat_template.jinja").write_bytes(text.encode())


def named_templates(folder: Path) -> None:
    templates = [
        {"name": "default", "template": "{{ messages[0].content }}"},
        {"name": "tool-use", "template": "{{ tools }}{{ messages }}"},
    ]
    change_json(folder / "tokenizer_config.json", lambda c: c.update(chat_template=templates))


def no_template_no_names(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def user_tokens(folder: Path) -> None:
    """Tokens that are not special; one looks as if, and one is the end after all."""
    decoder: dict[str, Any] = {}

    def change(tokenizer: dict[str, Any]) -> None:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for id_, content in enumerate(("<tool>", "<|look|>", "two words"), TINY.vocab_size - 1):
            entry = {"content": content, **flags, "special": False}
            tokenizer["added_tokens"].append({"id": id_, **entry})
            decoder[str(id_)] = entry

    smaller = make_checkpoint(folder.with_name("smaller"))  # leaves ids free above its own
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(smaller / file, folder / file)
    change_json(folder / "tokenizer.json", change)
    names = {"__type": "AddedToken", "content": "<tool>", "normalized": False}

    def change_config(config: dict[str, Any]) -> None:
        config["added_tokens_decoder"] |= decoder
        config |= {"eos_token": names, "sep_token": "<|look|>", "add_bos_token": False}

    change_json(folder / "tokenizer_config.json", change_config)


def _template_processing(first: str | None, last: str | None) -> dict[str, Any]:
    def wrapped(name: str, type_id: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"Sequence": {"id": name, "type_id": type_id}}]
        if first:
            parts.insert(0, {"SpecialToken": {"id": first, "type_id": type_id}})
        if last:
            parts.append({"SpecialToken": {"id": last, "type_id": type_id}})
        return parts

    tokens = {name: {"id": name, "ids": [508], "tokens": [name]} for name in (first, last) if name}
    return {
        "type": "TemplateProcessing",
        "single": wrapped("A", 0),
        "pair": wrapped("A", 0) + wrapped("B", 1),
        "special_tokens": tokens,
    }


def llama3_tokenizer(folder: Path) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        split = tokenizer["pre_tokenizer"]["pretokenizers"][0]
        split["pattern"]["Regex"] = LLAMA3
        tokenizer["model"]["ignore_merges"] = True
        tokenizer["normalizer"] = None
        template = _template_processing("<|endoftext|>", None)
        processors = [tokenizer["post_processor"], template]
        tokenizer["post_processor"] = {"type": "Sequence", "processors": processors}

    change_json(folder / "tokenizer.json", change)
    change_json(
        folder / "tokenizer_config.json",
        lambda c: c.update(bos_token="<|endoftext|>", tokenizer_class="PreTrainedTokenizerFast"),
    )


def both_ends(folder: Path) -> None:
    """A template whose end is not the config's: that one becomes the end of a turn."""

    def change(tokenizer: dict[str, Any]) -> None:
        split = tokenizer["pre_tokenizer"]["pretokenizers"][0]
        split["pattern"]["Regex"] = QWEN35
        tokenizer["post_processor"] = _template_processing("<|im_start|>", "<|endoftext|>")

    change_json(folder / "tokenizer.json", change)
    change_json(
        folder / "tokenizer_config.json",
        lambda c: c.update(tokenizer_class="PreTrainedTokenizerFast"),
    )


def vocabulary_files(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def pytorch_bin(folder: Path) -> None:
    weights = {n: torch.from_numpy(w).to(torch.bfloat16) for n, w in read_weights(folder).items()}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


# name: (change, shape, dtype, output types, pre-tokenizer)
CASES: dict[str, tuple[Change, Any, str, tuple[str, ...], str]] = {
    "plain": (plain, TINY, "bf16", ("f32", "f16", "bf16", "q8_0"), "qwen2"),
    "f32": (plain, TINY, "f32", ("f32", "f16", "bf16", "q8_0"), "qwen2"),
    "f16": (plain, TINY, "f16", ("f32", "f16", "bf16", "q8_0"), "qwen2"),
    "odd": (plain, replace(TINY, kv_lora_rank=40), "bf16", ("q8_0",), "qwen2"),
    "sharded": (shard, TINY, "f32", ("f16",), "qwen2"),
    "bin": (pytorch_bin, TINY, "f32", ("bf16",), "qwen2"),
    "PLM-1.8B-Instruct": (model_card, TINY, "bf16", ("f16",), "qwen2"),
    "a plain name": (card_without_yaml, TINY, "bf16", ("f16",), "qwen2"),
    "rope": (nested_rope, TINY, "bf16", ("f16",), "qwen2"),
    "template": (template_file, TINY, "bf16", ("f16",), "qwen2"),
    "templates": (named_templates, TINY, "bf16", ("f16",), "qwen2"),
    "nameless": (no_template_no_names, TINY, "bf16", ("f16",), "qwen2"),
    "user-tokens": (user_tokens, replace(TINY, vocab_size=520), "bf16", ("f16",), "qwen2"),
    "llama3": (llama3_tokenizer, TINY, "bf16", ("f16",), "llama-bpe"),
    "both-ends": (both_ends, TINY, "bf16", ("f16",), "qwen35"),
    "vocabulary": (vocabulary_files, TINY, "bf16", ("f16",), "qwen2"),
}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with CASE.TYPE.theirs.gguf for every case, made in one run of upstream."""
    place = tmp_path_factory.mktemp("upstream")
    jobs = []
    for name, (change, shape, dtype, kinds, pre) in CASES.items():
        folder = make_checkpoint(place / name, shape, dtype)
        change(folder)
        jobs += [[str(folder), k, str(place / f"{name}.{k}.theirs.gguf"), pre] for k in kinds]
    (place / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, str(RUNNER), str(stock_tree(place)), str(place / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def stock_tree(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE", USER_CACHE)
        pin = upstream.load(resources.folder("patches"))
        source.unpack(source.fetch(pin), pin, place / "tree")
    return place / "tree"


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, case in CASES.items() for kind in case[3]]
)
def test_stock_layout_is_upstreams_file(pairs: Path, name: str, kind: str) -> None:
    ours, theirs = pairs / f"{name}.{kind}.ours.gguf", pairs / f"{name}.{kind}.theirs.gguf"
    convert(pairs / name, ours, layout="stock", type_name=kind)
    ours_header, theirs_header = read_header(ours), read_header(theirs)
    assert ours_header.values == theirs_header.values
    assert list(ours_header.values) == list(theirs_header.values)
    for one, other in zip(ours_header.tensors, theirs_header.tensors, strict=True):
        assert one == other
    assert ours.read_bytes() == theirs.read_bytes()


def test_upstream_reads_ours(pairs: Path) -> None:
    ours = pairs / "again.gguf"
    convert(pairs / "plain", ours, layout="stock", type_name="q8_0")
    assert len(gguf.GGUFReader(ours).tensors) == 2 + 9 * TINY.num_hidden_layers
