"""Which ids are begin, end, padding, and whether begin and end are put around a text.

Follows what upstream's converter makes of post_processor, tokenizer_config.json and config.json,
in its order, so that a stock file has the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plm_edge.convert.bpe import AddedToken
from plm_edge.convert.gguf_output import boolean, u32
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufValue

_ID_KEYS = {
    "bos": "tokenizer.ggml.bos_token_id",
    "eos": "tokenizer.ggml.eos_token_id",
    "eot": "tokenizer.ggml.eot_token_id",
    "unk": "tokenizer.ggml.unknown_token_id",
    "sep": "tokenizer.ggml.seperator_token_id",  # upstream's spelling
    "pad": "tokenizer.ggml.padding_token_id",
    "mask": "tokenizer.ggml.mask_token_id",
}
_ADD_KEYS = {
    "bos": "tokenizer.ggml.add_bos_token",
    "eos": "tokenizer.ggml.add_eos_token",
    "sep": "tokenizer.ggml.add_sep_token",
}
_KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def special_tokens(
    files: TokenizerFiles, added: tuple[AddedToken, ...], vocab_size: int
) -> dict[str, GgufValue]:
    """The metadata of special tokens, checked against the vocabulary's size."""
    found = _Found(files.config)
    _apply_post_processor(found, files.tokenizer.get("post_processor"))
    # Upstream resolves names through tokenizer.json; without one only config.json's ids count.
    found.resolve({token.content: token.id for token in added} if files.tokenizer else {})
    found.take_ids(files.model)
    return found.values(vocab_size, files.folder)


class _Found:
    """What has been found so far; the first id of a kind stays."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = dict(names)
        self.has_names = bool(names)
        self.kinds = list(_KINDS)
        self.ids: dict[str, int] = {}
        self.adds: dict[str, bool] = {}
        for kind, stand_in in (("bos", "cls"), ("eos", "sep")):
            if self.has_names and not self.name(kind) and self.name(stand_in):
                self.names[f"{kind}_token"] = self.name(stand_in)

    def name(self, kind: str) -> Any:
        return self.names.get(f"{kind}_token")

    def rename(self, kind: str, content: Any) -> None:
        self.names[f"{kind}_token"] = content

    def resolve(self, by_content: Mapping[str, int]) -> None:
        if not self.has_names:
            return
        for kind in self.kinds:
            wanted = self.names.get(f"add_{kind}_token")
            if isinstance(wanted, bool):
                self.adds.setdefault(kind, wanted)
            entry = self.name(kind)
            content = entry.get("content") if isinstance(entry, dict) else entry
            if isinstance(content, str) and content in by_content:
                self.ids.setdefault(kind, by_content[content])

    def take_ids(self, config: Mapping[str, Any]) -> None:
        for kind in self.kinds:
            id_ = config.get(f"{kind}_token_id")
            if type(id_) is int:
                self.ids.setdefault(kind, id_)

    def values(self, vocab_size: int, folder: Path) -> dict[str, GgufValue]:
        values: dict[str, GgufValue] = {}
        for kind, id_ in self.ids.items():
            if not 0 <= id_ < vocab_size:
                raise InputError(
                    f"{folder}: {kind}_token_id = {id_}, expected an id below {vocab_size}"
                )
            if kind in _ID_KEYS:
                values[_ID_KEYS[kind]] = u32(id_)
        for kind, wanted in self.adds.items():
            if kind in _ADD_KEYS:
                values[_ADD_KEYS[kind]] = boolean(wanted)
        return values


def _apply_post_processor(found: _Found, processor: Any) -> None:
    if not isinstance(processor, dict):
        return
    steps = processor.get("processors", [processor])
    for step in steps if isinstance(steps, list) else []:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel":
            found.adds.setdefault("bos", False)
            found.adds.setdefault("eos", False)
        elif kind == "TemplateProcessing":
            _apply_template(found, step)


def _apply_template(found: _Found, step: Mapping[str, Any]) -> None:
    """A template like `<bos> A <eos>`: its first and last special token, if it has them."""
    single = step.get("single")
    single = single if isinstance(single, list) else []
    first = _special(single[0]) if len(single) > 1 else None
    last = _special(single[-1]) if len(single) > 1 else None
    if first:
        _apply_first(found, first)
    if last:
        _apply_last(found, last)
    pair = step.get("pair")
    if isinstance(pair, list) and pair:
        _apply_pair(found, pair, first, last)


def _apply_first(found: _Found, first: str) -> None:
    if first not in (found.name("bos"), found.name("cls")):
        for kind in ("bos", "cls"):
            if not found.name(kind):
                found.rename(kind, first)
    found.adds["bos"] = first in (found.name("bos"), found.name("cls"))


def _apply_last(found: _Found, last: str) -> None:
    if found.has_names and last != found.name("eos"):
        # The text's own end wins; what was called the end becomes the end of a turn.
        if "eot" not in found.kinds:
            found.kinds.append("eot")
            found.rename("eot", found.name("eos"))
        found.rename("eos", last)
    elif not found.has_names:
        found.rename("eos", last)
    found.adds["eos"] = last == found.name("eos")


def _apply_pair(found: _Found, pair: list[Any], first: str | None, last: str | None) -> None:
    """Whether a separator stands between two texts."""
    if first and _special(pair[0]) == first:
        pair = pair[1:]
    if last and pair and _special(pair[-1]) == last:
        pair = pair[:-1]
    if len(pair) < 3 or (_sequence(pair[0]), _sequence(pair[-1])) != ("A", "B"):
        return
    ends = (found.name("sep"), found.name("eos"))
    between = [_special(part) for part in pair[1:-1]]
    separated = bool(between[0]) and between[0] in ends and not last
    if len(between) == 2 and between[1] in ends and between[1]:
        separated = True
    found.adds["sep"] = separated
    if separated and not found.name("sep") and found.has_names:
        found.rename("sep", found.name("eos"))


def _special(part: Any) -> str | None:
    return _inner(part, "SpecialToken")


def _sequence(part: Any) -> str | None:
    return _inner(part, "Sequence")


def _inner(part: Any, kind: str) -> str | None:
    entry = part.get(kind) if isinstance(part, dict) else None
    name = entry.get("id") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None
