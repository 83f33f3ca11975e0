"""What is shown where: answers on stdout as they are, control characters kept off terminals."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plm_edge.chat.loaded import ModelOptions
from plm_edge.chat.screen import Screen, exchange_count, printable, status_text
from plm_edge.chat.talk import Finish, Reply

MODEL: Any = SimpleNamespace(
    used_tokens=512, context_tokens=4096, path=Path("m.gguf"), options=ModelOptions()
)


class Stream(io.StringIO):
    """A text stream that says whether it is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def reply(finish: Finish = "stop", left_out: int = 0) -> Reply:
    return Reply("text", finish, 100, 60, 30, 0.5, 2.0, left_out)


def test_an_answer_ends_with_one_line_break() -> None:
    out = Stream(False)
    screen = Screen(out, Stream(False))
    for pieces in (["a", "b"], ["c\n"], []):
        for piece in pieces:
            screen.answer(piece)
        screen.end_answer()
    assert out.getvalue() == "ab\nc\n"


def test_terminals_get_no_control_characters_and_files_get_everything() -> None:
    for is_terminal, expected in ((True, "\\x1b[2Ja\tb\n"), (False, "\x1b[2Ja\tb\n")):
        out = Stream(is_terminal)
        Screen(out, Stream(False)).answer("\x1b[2Ja\tb\n")
        assert out.getvalue() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("é\n\t👋", "é\n\t👋"), ("\r\x07", "\\x0d\\x07"), ("\x9b2J\x7f", "\\x9b2J\\x7f")],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_the_status_line_is_for_terminals() -> None:
    for is_terminal in (True, False):
        err = Stream(is_terminal)
        Screen(Stream(False), err).status(reply(), MODEL)
        assert ("30 tokens, 15.0 tok/s · context 512/4096 (12%)" in err.getvalue()) is is_terminal
    assert status_text(reply(), MODEL).startswith("30 tokens")


def test_speeds_leave_out_what_came_from_the_cache() -> None:
    assert reply().prompt_tokens_per_second == 80
    assert Reply("", "stop", 1, 1, 0, 0.0, 0.0, 0).answer_tokens_per_second == 0


def test_what_the_user_may_not_expect_is_said() -> None:
    err = Stream(False)
    screen = Screen(Stream(False), err)
    screen.notices(reply("length", left_out=2))
    screen.notices(reply("context", left_out=1))
    screen.notices(reply("stop"))
    assert err.getvalue().splitlines() == [
        "(the context is full: the oldest 2 exchanges left out)",
        "(stopped at --max-tokens)",
        "(the context is full: the oldest 1 exchange left out)",
        "(stopped: the context is full)",
    ]
    assert exchange_count(0) == "0 exchanges"
