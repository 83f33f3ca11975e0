"""The terminal chat: read, answer, repeat, until somebody leaves."""

from __future__ import annotations

from typing import Protocol

from plm_edge.chat import slash
from plm_edge.chat.interrupt import interrupt_flag
from plm_edge.errors import PlmEdgeError

LEAVE_HINT = "(type /quit or press Ctrl-D to leave)"


class LineSource(Protocol):
    """Where messages come from."""

    def read(self) -> str:
        """The next message; raises KeyboardInterrupt on Ctrl-C and EOFError at the end."""


def run(state: slash.State, lines: LineSource) -> None:
    """Talk until `/quit` or the end of input; an error ends the turn, not the chat."""
    while not state.is_done:
        try:
            text = lines.read()
        except KeyboardInterrupt:
            state.screen.line(LEAVE_HINT)
            continue
        except EOFError:
            return
        if text.strip():
            _handle(state, text)


def _handle(state: slash.State, text: str) -> None:
    try:
        if slash.is_command(text):
            slash.run(state, text)
        else:
            answer(state, slash.as_message(text))
    except PlmEdgeError as error:
        state.screen.line(f"error: {error.message}")
        if error.hint:
            state.screen.line(f"hint: {error.hint}")


def answer(state: slash.State, text: str) -> None:
    """Stream the answer to `text`; Ctrl-C stops it and keeps what was said."""
    with interrupt_flag() as is_interrupted:
        try:
            reply = state.chat.ask(text, state.screen.answer, is_interrupted)
        finally:
            state.screen.end_answer()
    state.last_reply = reply
    state.screen.notices(reply)
    state.screen.status(reply, state.chat.model)
