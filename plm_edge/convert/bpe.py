"""Reads a byte-level BPE vocabulary: `tokenizer.json`, or `vocab.json` with `merges.txt`.

Added tokens follow transformers: those of tokenizer.json, then what tokenizer_config.json says of
them; what it names as begin, end, padding and so on is special.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.convert import pretokenizer
from plm_edge.convert.json_file import read_object, read_object_if_there
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError
from plm_edge.paths import read_bytes
from plm_edge.shell import quote

# Token types of GGUF.
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

_MERGES_LIMIT_BYTES = 64 << 20
_NAMED = tuple(f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
# llama.cpp takes these for control tokens even where a tokenizer forgot to say so.
_LOOK_SPECIAL = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
_SPECIAL_BRACKETS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
_SENTENCEPIECE_SPACE = "\u2581"

NFC_NOTE = (
    "the tokenizer composes accents (NFC) before it splits, llama.cpp does not: text with "
    "decomposed accents gets other ids there unless it is composed first"
)


@dataclass(frozen=True)
class AddedToken:
    """A token matched as a whole before the text is split."""

    id: int
    content: str
    special: bool


@dataclass(frozen=True)
class Bpe:
    """A byte-level BPE: ids by token without the added ones, merges in order, added tokens."""

    vocabulary: Mapping[str, int]
    merges: tuple[str, ...]
    added: tuple[AddedToken, ...]
    pre: str
    notes: tuple[str, ...]

    def tokens(self, size: int, source: Path) -> tuple[list[str], list[int]]:
        """Texts and GGUF types of ids 0 to `size`, filled up with padding tokens.

        A hole or an id used twice is an `InputError`: it would shift the embedding's rows.
        """
        by_id = {id_: (token, NORMAL) for token, id_ in self.vocabulary.items()}
        if len(by_id) != len(self.vocabulary):
            raise _twice(self.vocabulary.items(), source)
        for added in self.added:
            before = by_id.get(added.id)
            if before is not None and before[0] != added.content:
                raise InputError(
                    f"{source}: id {added.id} is both {before[0]!r} and {added.content!r}"
                )
            by_id[added.id] = _typed(added)
        _check_complete(by_id, size, source)
        known = len(by_id)
        rows = [by_id[id_] for id_ in range(known)]
        rows += [(f"[PAD{id_}]", UNUSED) for id_ in range(known, size)]
        texts = [text for text, _ in rows]
        check_distinct(texts, source)
        return texts, [kind for _, kind in rows]


def read_bpe(files: TokenizerFiles) -> Bpe:
    """The byte-level BPE of a checkpoint folder."""
    return _from_tokenizer_json(files) if files.tokenizer else _from_vocab_json(files)


def _from_tokenizer_json(files: TokenizerFiles) -> Bpe:
    path, table = files.tokenizer_path, files.tokenizer
    model = table.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise InputError(f"{path}: model.type is not BPE, the only kind PLM has")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout"):
        if model.get(key):
            raise InputError(f"{path}: model.{key} = {model[key]!r}, which llama.cpp does not do")
    vocabulary = _vocabulary(model.get("vocab"), path)
    merges = _merges(model.get("merges"), path)
    _check_merges(merges, vocabulary, path)
    pre = pretokenizer.recognize(table.get("pre_tokenizer"), bool(model.get("ignore_merges")), path)
    listed = [_added_token(entry, path) for entry in _list(table.get("added_tokens"), path)]
    added = _with_config(listed, vocabulary, files)
    return Bpe(vocabulary, merges, added, pre, _normalizer_notes(table.get("normalizer"), path))


def _from_vocab_json(files: TokenizerFiles) -> Bpe:
    folder = files.folder
    path, merges_path = folder / "vocab.json", folder / "merges.txt"
    for needed in (path, merges_path):
        if not needed.is_file():
            raise InputError(
                f"{folder}: no tokenizer: neither tokenizer.json, vocab.json with merges.txt "
                "nor tokenizer.model",
                hint=quote(["ls", folder]),
            )
    pre = pretokenizer.of_class(files.config.get("tokenizer_class"), files.config_path)
    vocabulary = _vocabulary(read_object(path), path)
    merges = _merges_of_text(merges_path)
    _check_merges(merges, vocabulary, merges_path)
    extra = folder / "added_tokens.json"
    plain = _vocabulary(read_object_if_there(extra), extra)
    listed = [AddedToken(id_, content, False) for content, id_ in plain.items()]
    notes = (NFC_NOTE,) if pre == "qwen2" else ()
    return Bpe(vocabulary, merges, _with_config(listed, vocabulary, files), pre, notes)


def _vocabulary(value: Any, path: Path) -> dict[str, int]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: the vocabulary is no table of tokens")
    for token, id_ in value.items():
        if type(id_) is not int or id_ < 0:
            raise InputError(f"{path}: token {token[:80]!r} has the id {str(id_)[:40]}")
    return value


def _merges(value: Any, path: Path) -> tuple[str, ...]:
    """Merges as "left right", whichever of the two spellings the file has."""
    merges = []
    for entry in _list(value, path):
        parts = entry.split(" ") if isinstance(entry, str) else entry
        pair = isinstance(parts, list) and len(parts) == 2
        if not pair or not all(isinstance(part, str) and part for part in parts):
            raise InputError(f"{path}: merge {str(entry)[:80]!r} is no pair of tokens")
        # A space within a part would read as the separator; GGUF spells it as the byte does.
        merges.append(" ".join(part.replace(" ", "Ġ") for part in parts))
    return tuple(merges)


def _merges_of_text(path: Path) -> tuple[str, ...]:
    try:
        lines = read_bytes(path, limit_bytes=_MERGES_LIMIT_BYTES).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason}") from error
    if lines[0].startswith("#"):
        lines = lines[1:]
    return _merges([line.strip() for line in lines if line.strip()], path)


def _check_merges(merges: Iterable[str], vocabulary: Mapping[str, int], path: Path) -> None:
    for merge in merges:
        left, right = merge.split(" ")
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise InputError(f"{path}: merge {merge!r} needs {token!r}, which has no id")


def _list(value: Any, path: Path) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{path}: {str(value)[:60]!r}, expected a list")
    return value


def _added_token(entry: Any, path: Path) -> AddedToken:
    content = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(content, str) or not content or type(entry.get("id")) is not int:
        raise InputError(f"{path}: added token {str(entry)[:80]}, expected id and content")
    return AddedToken(entry["id"], content, bool(entry.get("special")))


def _with_config(
    listed: list[AddedToken], vocabulary: Mapping[str, int], files: TokenizerFiles
) -> tuple[AddedToken, ...]:
    path, config = files.config_path, files.config
    by_content = {token.content: token for token in listed}
    decoder = config.get("added_tokens_decoder")
    for id_, entry in decoder.items() if isinstance(decoder, dict) else ():
        if not id_.isdecimal() or not isinstance(entry, dict):
            raise InputError(f"{path}: added_tokens_decoder has the id {id_[:40]!r}")
        token = _added_token({**entry, "id": int(id_)}, path)
        by_content[token.content] = token
    for content in _named_specials(config):
        if content in by_content:
            id_ = by_content[content].id
        else:
            known = {*vocabulary.values(), *(token.id for token in by_content.values())}
            id_ = vocabulary.get(content, max(known, default=-1) + 1)
        by_content[content] = AddedToken(id_, content, True)
    return tuple(sorted(by_content.values(), key=lambda token: token.id))


def _named_specials(config: Mapping[str, Any]) -> Iterable[str]:
    for key in _NAMED:
        entry = config.get(key)
        content = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(content, str) and content:
            yield content


def _typed(token: AddedToken) -> tuple[str, int]:
    if token.special or _looks_special(token.content):
        return token.content, CONTROL
    return token.content.replace(_SENTENCEPIECE_SPACE, " "), USER_DEFINED


def _looks_special(text: str) -> bool:
    return text in _LOOK_SPECIAL or any(
        text.startswith(left) and text.endswith(right) for left, right in _SPECIAL_BRACKETS
    )


def _twice(items: Iterable[tuple[str, int]], source: Path) -> InputError:
    first: dict[int, str] = {}
    for token, id_ in items:
        if id_ in first:
            return InputError(f"{source}: id {id_} is both {first[id_]!r} and {token!r}")
        first[id_] = token
    return InputError(f"{source}: an id is used twice")


def check_distinct(texts: Iterable[str], source: Path) -> None:
    """Raise `InputError` when two ids have the same text: the engine finds ids by text."""
    first: dict[str, int] = {}
    for id_, text in enumerate(texts):
        if text in first:
            raise InputError(f"{source}: token {text[:80]!r} has the ids {first[text]} and {id_}")
        first[text] = id_


def _check_complete(by_id: Mapping[int, object], size: int, source: Path) -> None:
    known = len(by_id)
    hole = next((id_ for id_ in range(known) if id_ not in by_id), None)
    if hole is not None:
        raise InputError(f"{source}: no token has the id {hole}, though {max(by_id)} is used")
    if known > size:
        raise InputError(
            f"{source}: {known} tokens, but config.json has vocab_size = {size}: the last "
            "ones would have no row in the embedding"
        )


def _normalizer_notes(normalizer: Any, path: Path) -> tuple[str, ...]:
    kind = normalizer.get("type") if isinstance(normalizer, dict) else None
    if normalizer is None:
        return ()
    if kind == "Sequence" and normalizer.get("normalizers") == []:
        return ()
    if kind == "NFC":
        return (NFC_NOTE,)
    raise InputError(
        f"{path}: normalizer {str(kind)[:40]}, which llama.cpp does not do (expected NFC or none)"
    )
