"""The tokenizer of a checkpoint as GGUF metadata, whichever of the three forms it comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plm_edge.convert import bpe
from plm_edge.convert.chat_template import KEY as TEMPLATE_KEY
from plm_edge.convert.chat_template import chat_template
from plm_edge.convert.gguf_output import array, boolean, string
from plm_edge.convert.sentencepiece_vocabulary import read_pieces
from plm_edge.convert.special_tokens import special_tokens
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.gguf_header import F32, I32, STRING, GgufValue

_NO_TEMPLATE = "no chat template: chat will have to be told one"
_NO_END = "no end-of-text token: generation stops at the token limit only"


@dataclass(frozen=True)
class Tokenizer:
    """GGUF metadata of a tokenizer; `pre` is llama.cpp's name of its split ("" for llama's)."""

    values: Mapping[str, GgufValue]
    kind: str
    pre: str
    tokens: int
    padding: int
    notes: tuple[str, ...]


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Read, check and translate the tokenizer of a checkpoint folder."""
    files = TokenizerFiles.read(folder)
    if (folder / "tokenizer.model").is_file() and not files.is_byte_level:
        return _sentencepiece(files, vocab_size)
    return _byte_level(files, vocab_size)


def _byte_level(files: TokenizerFiles, vocab_size: int) -> Tokenizer:
    vocabulary = bpe.read_bpe(files)
    texts, types = vocabulary.tokens(vocab_size, files.folder)
    values = {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string(vocabulary.pre),
        "tokenizer.ggml.tokens": array(STRING, texts),
        "tokenizer.ggml.token_type": array(I32, types),
    }
    if vocabulary.merges:
        values["tokenizer.ggml.merges"] = array(STRING, vocabulary.merges)
    values |= special_tokens(files, vocabulary.added, vocab_size) | chat_template(files)
    padding = types.count(bpe.UNUSED)
    notes = (*vocabulary.notes, *_missing(values))
    return Tokenizer(values, "gpt2", vocabulary.pre, vocab_size - padding, padding, notes)


def _sentencepiece(files: TokenizerFiles, vocab_size: int) -> Tokenizer:
    pieces = read_pieces(files, vocab_size)
    values = {
        "tokenizer.ggml.model": string("llama"),
        "tokenizer.ggml.pre": string("default"),
        "tokenizer.ggml.tokens": array(STRING, pieces.texts),
        "tokenizer.ggml.scores": array(F32, pieces.scores),
        "tokenizer.ggml.token_type": array(I32, pieces.types),
    }
    if not pieces.space_first:
        values["tokenizer.ggml.add_space_prefix"] = boolean(False)
    added = tuple(
        bpe.AddedToken(id_, text, True)
        for id_, (text, kind) in enumerate(zip(pieces.texts, pieces.types, strict=True))
        if kind != bpe.NORMAL
    )
    values |= special_tokens(files, added, vocab_size) | chat_template(files)
    notes = (*pieces.notes, *_missing(values))
    padding = sum(text == f"[PAD{id_}]" for id_, text in enumerate(pieces.texts))
    return Tokenizer(values, "llama", "", vocab_size - padding, padding, notes)


def _missing(values: Mapping[str, GgufValue]) -> tuple[str, ...]:
    notes = () if TEMPLATE_KEY in values else (_NO_TEMPLATE,)
    return notes if "tokenizer.ggml.eos_token_id" in values else (*notes, _NO_END)
