"""Lines from a person: editing, history, and pasted text of several lines as one message."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.output import create_output

PROMPT = "> "
CONTINUATION = "  "


class Keyboard:
    """Asks for messages at the terminal; Ctrl-C raises KeyboardInterrupt, Ctrl-D EOFError."""

    def __init__(self, history_file: Path, words: list[str]) -> None:
        self.history_problem: str | None = None
        self._session: PromptSession[str] = PromptSession(
            history=self._history(history_file),
            completer=_command_completer(words),
            complete_while_typing=False,
            key_bindings=_bindings(),
            prompt_continuation=CONTINUATION,
            # stdout may be a file that collects the answers.
            output=create_output(always_prefer_tty=True),
        )

    def read(self) -> str:
        """The next message, as typed or pasted."""
        text = self._session.prompt(PROMPT)
        # Bytes that are no UTF-8 arrive as lone surrogates, which nothing downstream can encode.
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def _history(self, path: Path) -> History:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Only its owner may read what somebody said to a chat.
            os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
        except OSError as error:
            self.history_problem = f"{path}: no input history: {error.strerror}"
            return InMemoryHistory()
        return FileHistory(str(path))


def _command_completer(words: list[str]) -> Completer:
    return WordCompleter(words, sentence=True)


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings
