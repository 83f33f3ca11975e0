"""Input history that cannot be kept; what is typed is tested in a terminal by test_repl."""

from __future__ import annotations

from pathlib import Path

from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from plm_edge.chat.keyboard import Keyboard


def test_a_history_that_cannot_be_written_is_said_and_does_not_stop_the_chat(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keyboard = Keyboard(tmp_path / "file" / "history", [])
        assert "file/history: no input history: " in str(keyboard.history_problem)
        keys.send_text("hello\r")
        assert keyboard.read() == "hello"


def test_bytes_that_are_no_text_become_question_marks(tmp_path: Path) -> None:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keyboard = Keyboard(tmp_path / "history", [])
        assert keyboard.history_problem is None
        keys.send_bytes(b"a\xffb\r")
        assert keyboard.read() == "a\ufffdb"
