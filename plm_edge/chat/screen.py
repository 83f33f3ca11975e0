"""What a chat shows: the answer on stdout, everything about it on stderr."""

from __future__ import annotations

import re
import sys
from typing import TextIO

from plm_edge.chat.loaded import LoadedModel
from plm_edge.chat.talk import Reply

# Everything that moves the cursor, changes colours or talks to the terminal: C0 and C1 control
# characters except tab and line feed. A model may have learned them, or been told to use them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_FINISH_NOTES = {
    "length": "stopped at --max-tokens",
    "context": "stopped: the context is full",
    "interrupted": "stopped",
}


class Screen:
    """Two streams; terminals get status lines and no control characters."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._is_line_open = False

    def answer(self, text: str) -> None:
        """Show a piece of the answer at once."""
        self._out.write(printable(text) if self._out.isatty() else text)
        self._out.flush()
        self._is_line_open = not text.endswith("\n")

    def end_answer(self) -> None:
        """Finish the answer's last line."""
        if self._is_line_open:
            self._out.write("\n")
            self._out.flush()
        self._is_line_open = False

    def line(self, text: str) -> None:
        """Show a line that belongs to the program, not to the model."""
        self._err.write(printable(text) + "\n")
        self._err.flush()

    def status(self, reply: Reply, model: LoadedModel) -> None:
        """Show speed and context after an answer, on a terminal only."""
        if not self._err.isatty():
            return
        self._err.write(f"\x1b[2m[{status_text(reply, model)}]\x1b[0m\n")
        self._err.flush()

    def notices(self, reply: Reply) -> None:
        """Say what happened that the user may not expect."""
        if reply.left_out_exchanges:
            count = exchange_count(reply.left_out_exchanges)
            self.line(f"(the context is full: the oldest {count} left out)")
        if note := _FINISH_NOTES.get(reply.finish):
            self.line(f"({note})")


def status_text(reply: Reply, model: LoadedModel) -> str:
    """One line: tokens, speed, and how full the context is."""
    used, size = model.used_tokens, model.context_tokens
    return (
        f"{reply.answer_tokens} tokens, {speed_text(reply.answer_tokens_per_second, model)}"
        f" · context {used}/{size} ({used / size:.0%})"
    )


def speed_text(tokens_per_second: float, model: LoadedModel) -> str:
    """The speed, or why there is none."""
    return "emulated" if model.options.is_emulated else f"{tokens_per_second:.1f} tok/s"


def exchange_count(count: int) -> str:
    """A number of questions with their answers, in words."""
    return f"{count} exchange" if count == 1 else f"{count} exchanges"


def printable(text: str) -> str:
    """`text` with control characters made visible, so that it cannot command a terminal."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
