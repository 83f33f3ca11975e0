"""Text becomes windows as llama.cpp's own tool cuts it, or one line says why not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from plm_edge.errors import InputError, UsageError
from plm_edge.eval import text


@dataclass
class Letters:
    """A token per letter."""

    opening_token: int | None = None

    def tokenize(self, content: str) -> list[int]:
        return [ord(letter) for letter in content]


def write(folder: Path, raw: bytes) -> Path:
    path = folder / "t.txt"
    path.write_bytes(raw)
    return path


def test_a_rest_shorter_than_a_context_is_left_out(tmp_path: Path) -> None:
    read = text.read(write(tmp_path, bytes(range(65, 95))))
    cut = text.windows(read, Letters(), 8)
    assert [window[0] for window in cut.tokens] == [65, 73, 81]
    assert (cut.first, cut.judged) == (4, 3)
    assert len(text.windows(read, Letters(), 8, limit=2).tokens) == 2


def test_windows_may_be_spread_over_the_whole_text(tmp_path: Path) -> None:
    read = text.read(write(tmp_path, b"".join(bytes([65 + i]) * 8 for i in range(9))))
    for count, first in ((2, "AI"), (3, "AEI"), (4, "ACFI"), (9, "ABCDEFGHI"), (99, "ABCDEFGHI")):
        found = text.spread(read, Letters(), 8, count).tokens
        assert "".join(chr(window[0]) for window in found) == first


def test_windows_begin_as_the_vocabulary_wants(tmp_path: Path) -> None:
    read = text.read(write(tmp_path, b"abcdefgh" * 2))
    cut = text.windows(read, Letters(opening_token=1), 8)
    assert cut.tokens == ((1, *map(ord, "bcdefgh")),) * 2
    assert cut.sha256 != text.windows(read, Letters(), 8).sha256


def test_one_newline_at_the_end_is_dropped_but_counts_for_the_hash(tmp_path: Path) -> None:
    read = text.read(write(tmp_path, b"a\n\n"))
    assert read.content == "a\n"
    assert read.sha256 == hashlib.sha256(b"a\n\n").hexdigest()


def test_text_shorter_than_two_contexts_says_how_much_is_needed(tmp_path: Path) -> None:
    read = text.read(write(tmp_path, b"a" * 1000))
    with pytest.raises(InputError, match=r"t\.txt: 1000 tokens, but contexts of 512 need 1024"):
        text.windows(read, Letters(), 512)
    with pytest.raises(UsageError, match="--ctx 4: expected 8"):
        text.windows(read, Letters(), 4)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"ab\xff", "not UTF-8 text: byte 2 is 0xff"),
        (b"", "is empty, expected text"),
        (b"\n", "is empty, expected text"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, raw: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        text.read(write(tmp_path, raw))
    assert caught.value.message == f"{tmp_path / 't.txt'}: {said}"
