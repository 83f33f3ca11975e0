"""Reads a sentencepiece `tokenizer.model` (Llama's kind) with its scores and added tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.convert.bpe import check_distinct
from plm_edge.convert.json_file import read_object_if_there
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError
from plm_edge.paths import read_bytes

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
PADDING_SCORE = -10000.0
ADDED_SCORE = -1000.0
_LIMIT_BYTES = 256 << 20
_SPACE = "\u2581"


@dataclass(frozen=True)
class Pieces:
    """Texts, scores and GGUF types of every id, padding included.

    `space_first` says whether a text begins as if a space stood before it.
    """

    texts: list[str]
    scores: list[float]
    types: list[int]
    space_first: bool
    notes: tuple[str, ...]


def read_pieces(files: TokenizerFiles, size: int) -> Pieces:
    """The pieces of tokenizer.model, then added tokens, filled up with padding to `size`."""
    path = files.folder / "tokenizer.model"
    processor = _processor(path)
    count = int(processor.vocab_size())
    if count > size:
        raise InputError(f"{path}: {count} pieces, but config.json has vocab_size = {size}")
    texts = [f"[PAD{id_}]" for id_ in range(size)]
    scores, types = [PADDING_SCORE] * size, [UNUSED] * size
    for id_ in range(count):
        texts[id_] = processor.id_to_piece(id_)
        scores[id_] = processor.get_score(id_)
        types[id_] = _type(processor, id_)
    for id_, text, is_control in _added(files, size):
        texts[id_], scores[id_] = text, ADDED_SCORE
        types[id_] = CONTROL if is_control else USER_DEFINED
    check_distinct(texts, path)
    space_first = processor.normalize("a").startswith(_SPACE)
    return Pieces(texts, scores, types, space_first, _notes(processor))


def _notes(processor: Any) -> tuple[str, ...]:
    """A model can rewrite text before it splits (NFKC, runs of blanks); llama.cpp never does."""
    probe = "a\ufb01\u2460e\u0301  a"  # a ligature, a circled digit, a loose accent, two blanks
    if processor.normalize(probe).removeprefix(_SPACE) == probe.replace(" ", _SPACE):
        return ()
    return (
        "the sentencepiece model rewrites text before it splits (its normalizer), llama.cpp does "
        "not: text that would be rewritten gets other ids there",
    )


def _processor(path: Path) -> Any:
    from sentencepiece import SentencePieceProcessor

    data = read_bytes(path, limit_bytes=_LIMIT_BYTES)
    try:
        processor = SentencePieceProcessor()
        processor.load_from_serialized_proto(data)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"{path}: sentencepiece cannot read it") from error
    return processor


def _type(processor: Any, id_: int) -> int:
    if processor.is_unknown(id_):
        return UNKNOWN
    if processor.is_control(id_):
        return CONTROL
    if processor.is_unused(id_):
        return UNUSED
    return BYTE if processor.is_byte(id_) else NORMAL


def _added(files: TokenizerFiles, size: int) -> list[tuple[int, str, bool]]:
    path = files.folder / "added_tokens.json"
    found = [(id_, text, False) for text, id_ in read_object_if_there(path).items()]
    decoder = files.config.get("added_tokens_decoder")
    for key, entry in decoder.items() if isinstance(decoder, dict) else ():
        content = entry.get("content") if isinstance(entry, dict) else None
        if isinstance(content, str) and key.isdecimal():
            special = bool(entry.get("special")) or _is_bracketed(content)
            found.append((int(key), content if special else content.replace(_SPACE, " "), special))
    for id_, text, _ in found:
        if type(id_) is not int or not 0 <= id_ < size:
            raise InputError(f"{path}: token {text!r} has the id {id_}, expected one below {size}")
    return found


def _is_bracketed(text: str) -> bool:
    return text.startswith("<|") and text.endswith("|>")
