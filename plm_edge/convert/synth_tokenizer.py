"""A byte-level BPE tokenizer of any size for synthesized checkpoints, in PLM's (Qwen2's) form.

The first merges come from `synth_merges.txt` (trained once on Python's own documentation); larger
vocabularies go on with made-up merges of word pieces, valid by construction and always the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.errors import InputError

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIALS = (END_OF_TEXT, TURN_START, TURN_END)

# Qwen2's split: contractions, words with one leading sign, single digits, signs, blanks.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_BYTES = 256
_SMALLEST = _BYTES + len(SPECIALS)
# PLM-1.8B has 290 rows without a token in 151,936.
_PADDING_PER_ROW = 290 / 151936


@dataclass(frozen=True)
class Vocabulary:
    """The tokens in id order (bytes, merged, special); ids from `len(tokens)` on are padding."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    size: int

    @property
    def padding(self) -> int:
        """Rows of the embedding that stand for no token."""
        return self.size - len(self.tokens)

    def id_of(self, special: str) -> int:
        """The id of one of `SPECIALS`."""
        return len(self.tokens) - len(SPECIALS) + SPECIALS.index(special)


def make_vocabulary(size: int) -> Vocabulary:
    """The vocabulary for an embedding of `size` rows; `InputError` below 259 (all bytes)."""
    if size < _SMALLEST:
        raise InputError(
            f"vocab_size = {size}, expected at least {_SMALLEST} (every byte and three specials)"
        )
    padding = min(max(1, int(size * _PADDING_PER_ROW)), size - _SMALLEST)
    wanted = size - padding - _SMALLEST
    tokens = list(_byte_tokens())
    merges: list[tuple[str, str]] = []
    known = set(tokens)
    for left, right in _merges():
        if len(merges) == wanted:
            break
        if left + right not in known:
            merges.append((left, right))
            tokens.append(left + right)
            known.add(left + right)
    return Vocabulary((*tokens, *SPECIALS), tuple(merges), size)


def _byte_tokens() -> Iterator[str]:
    """GPT-2's printable stand-ins for the 256 bytes, those that print as themselves first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    yield from map(chr, printable)
    yield from (chr(_BYTES + i) for i in range(_BYTES - len(printable)))


def _merges() -> Iterator[tuple[str, str]]:
    trained = _trained_merges()
    yield from trained
    pieces = [left + right for left, right in trained]
    heads = [piece for piece in pieces if piece.removeprefix("Ġ").isalpha() and len(piece) > 1]
    tails = [piece for piece in pieces if piece.isascii() and piece.isalpha()]
    for total in range(len(heads) + len(tails) - 1):
        for i in range(max(0, total - len(tails) + 1), min(total + 1, len(heads))):
            yield heads[i], tails[total - i]


def _trained_merges() -> list[tuple[str, str]]:
    text = Path(__file__).with_name("synth_merges.txt").read_text(encoding="utf-8")
    pairs = [line.split(" ") for line in text.splitlines()]
    return [(left, right) for left, right in pairs]


def write_tokenizer(folder: Path, vocabulary: Vocabulary, context: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, vocab.json and merges.txt into `folder`."""
    plain = vocabulary.tokens[: -len(SPECIALS)]
    ids = {token: i for i, token in enumerate(plain)}
    _write_json(folder / "tokenizer.json", _tokenizer(vocabulary, ids))
    _write_json(folder / "tokenizer_config.json", _config(vocabulary, context), indent=2)
    _write_json(folder / "vocab.json", ids)
    lines = "".join(f"{left} {right}\n" for left, right in vocabulary.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")


def _write_json(path: Path, value: Any, indent: int | None = None) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    path.write_text(text + "\n", encoding="utf-8")


def _added_tokens(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": vocabulary.id_of(token), "content": token, **flags, "special": True}
        for token in SPECIALS
    ]


def _tokenizer(vocabulary: Vocabulary, ids: dict[str, int]) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    byte_level["use_regex"] = False
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary),
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": ids,
            "merges": [list(pair) for pair in vocabulary.merges],
        },
    }


def _config(vocabulary: Vocabulary, context: int) -> dict[str, Any]:
    added = {}
    for token in _added_tokens(vocabulary):
        added[str(token.pop("id"))] = token
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [TURN_START, TURN_END],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "errors": "replace",
        "model_max_length": context,
        "pad_token": END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
