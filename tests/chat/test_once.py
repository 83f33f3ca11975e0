"""One question from a pipe or a flag."""

from __future__ import annotations

import io

import pytest

from plm_edge.chat import once
from plm_edge.errors import InputError


def test_a_pipe_is_read_whole_without_its_last_line_break() -> None:
    assert once.read_prompt(io.BytesIO("ä\n\nb\n".encode())) == "ä\n\nb"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "nothing to say"),
        (b" \n\t\n", "nothing to say"),
        (b"ab\xc3", "byte 0xc3 at offset 2"),
        (b"\xed\xa0\x80", "byte 0xed at offset 0"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        once.read_prompt(io.BytesIO(content))


def test_a_pipe_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "STDIN_LIMIT_BYTES", 1 << 20)
    with pytest.raises(InputError, match="more than 1 MB"):
        once.read_prompt(io.BytesIO(b"x" * ((1 << 20) + 1)))


def test_a_flag_may_hold_bytes_that_are_no_text() -> None:
    with pytest.raises(InputError, match="--prompt: not UTF-8"):
        once.checked("a\udcffb", "--prompt")
