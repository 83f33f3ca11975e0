"""The text to evaluate on: read, turned into tokens, cut into windows of one context each.

Windows follow llama.cpp's perplexity tool: one after the other, a rest shorter than a context left
out, at least two of them, and only the second half of each is judged.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plm_edge.errors import InputError, UsageError
from plm_edge.paths import read_bytes
from plm_edge.shell import quote

LIMIT_BYTES = 1 << 28
_LEAST_CONTEXT = 8
_LEAST_WINDOWS = 2


@dataclass(frozen=True)
class Text:
    """A file's text as the engine gets it, and the sha256 of its bytes."""

    path: Path
    content: str
    sha256: str


class Tokenizer(Protocol):
    """What cutting needs of a model."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids, special ones at the start as the vocabulary wants them."""

    @property
    def opening_token(self) -> int | None:
        """The token every window begins with, if the vocabulary wants one."""


@dataclass(frozen=True)
class Windows:
    """Token ids, (windows, context)."""

    tokens: tuple[tuple[int, ...], ...]
    context: int

    @property
    def sha256(self) -> str:
        """Names the tokens: equal where two vocabularies cut the text alike."""
        ids = array("i", (token for window in self.tokens for token in window))
        return hashlib.sha256(ids.tobytes()).hexdigest()

    @property
    def first(self) -> int:
        """The first position whose prediction is judged."""
        return self.context // 2

    @property
    def judged(self) -> int:
        """How many predictions are judged in a window."""
        return self.context - 1 - self.first


def read(path: Path) -> Text:
    """Read a text file; `InputError` if it is empty or not UTF-8."""
    raw = read_bytes(path, limit_bytes=LIMIT_BYTES)
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text: byte {error.start} is {raw[error.start]:#04x}",
            hint=quote(["iconv", "-t", "UTF-8", path]),
        ) from error
    # The tools of llama.cpp drop one newline at the end of a file.
    content = content.removesuffix("\n")
    if not content:
        raise InputError(f"{path}: is empty, expected text")
    return Text(path, content, hashlib.sha256(raw).hexdigest())


def windows(text: Text, tokenizer: Tokenizer, context: int, limit: int | None = None) -> Windows:
    """The first `limit` windows of a text, or all; `InputError` if there are fewer than two."""
    if context < _LEAST_CONTEXT:
        raise UsageError(f"--ctx {context}: expected {_LEAST_CONTEXT} tokens or more")
    tokens = tokenizer.tokenize(text.content)
    if len(tokens) < _LEAST_WINDOWS * context:
        raise InputError(
            f"{text.path}: {len(tokens)} tokens, but contexts of {context} need "
            f"{_LEAST_WINDOWS * context} at least",
            hint=f"take a longer text, or --ctx {max(_LEAST_CONTEXT, len(tokens) // 4)}",
        )
    count = len(tokens) // context
    cut = (tokens[i * context : (i + 1) * context] for i in range(min(count, limit or count)))
    return Windows(tuple(_opened(window, tokenizer.opening_token) for window in cut), context)


def spread(text: Text, tokenizer: Tokenizer, context: int, count: int) -> Windows:
    """`count` windows evenly from the whole of a text, or all where there are fewer."""
    every = windows(text, tokenizer, context).tokens
    last = len(every) - 1
    places = [last * i // (count - 1) for i in range(count)] if count <= last else range(last + 1)
    return Windows(tuple(every[place] for place in places), context)


def _opened(window: Sequence[int], opening: int | None) -> tuple[int, ...]:
    return tuple(window) if opening is None else (opening, *window[1:])
