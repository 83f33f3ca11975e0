"""Drives a program in a pseudo-terminal, as a person would: type, wait for text, press keys."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

CTRL_C, CTRL_D, ENTER, ALT_ENTER, UP = "\x03", "\x04", "\r", "\x1b\r", "\x1b[A"
PASTE_START, PASTE_END = "\x1b[200~", "\x1b[201~"

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>()][A-Z0-9]?)")


class Terminal:
    """A running program with a terminal of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._own, other = pty.openpty()
        # Wide and high, so that the line editor never wraps or scrolls what a test looks for.
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environment},
            preexec_fn=_own_terminal,
        )
        os.close(other)
        self._raw = b""
        self._seen = 0

    def expect(self, text: str, seconds: float = 600) -> str:
        """Wait until `text` shows after what was expected before; returns what led up to it."""
        end = time.monotonic() + seconds
        while True:
            shown = self.shown()
            found = shown.find(text, self._seen)
            if found >= 0:
                start, self._seen = self._seen, found + len(text)
                return shown[start:found]
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"no {text!r} within {seconds} s; the screen shows:\n{shown}")

    def send(self, keys: str) -> None:
        """Press keys."""
        os.write(self._own, keys.encode())

    def line(self, text: str) -> None:
        """Type a line and press Enter."""
        self.send(text + ENTER)

    def shown(self) -> str:
        """Everything shown so far, without colours and cursor movements."""
        return _ESCAPES.sub("", self._raw.decode("utf-8", "replace")).replace("\r", "")

    def wait(self, seconds: float = 120) -> int:
        """The exit status, once the program has ended by itself."""
        end = time.monotonic() + seconds
        # What it still says must be taken from it: the terminal holds little.
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        return self.process.wait(0.1)

    def _read(self, seconds: float) -> bool:
        if seconds <= 0 or not select.select([self._own], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._own, 1 << 16)
        except OSError:  # Linux says EIO when the other side is closed
            return False
        self._raw += data
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def plm_edge(*words: str) -> list[str]:
    """The command line of the program under test."""
    return [sys.executable, "-m", "plm_edge", *words]
