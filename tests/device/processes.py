"""What runs on this machine, for tests that look for leftovers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def command_lines() -> list[str]:
    """The command line of every live process, its words separated by blanks."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            raw = (folder / "cmdline").read_bytes()
        except OSError:  # it ended in between
            continue
        found.append(raw.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def is_running(*start: str) -> bool:
    """Whether some process was started with a command line that begins with these words."""
    # The blank after the last word: `sleep 60.12` is not another suite's `sleep 60.123`.
    return any(line.startswith(" ".join(start) + " ") for line in command_lines())


def odd_seconds(number: int) -> str:
    """A duration for `sleep` that nobody else on this machine sleeps for."""
    return f"{number}.{os.getpid()}"


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether `condition()` becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
