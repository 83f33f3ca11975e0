"""What runs on this machine, for tests that look for leftovers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def command_lines() -> list[str]:
    """The command line of every live process, its words separated by blanks."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended in between
            continue
    return found


def is_running(*start: str) -> bool:
    """Whether some process was started with a command line that begins with these words."""
    return any(line.startswith(" ".join(start)) for line in command_lines())


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether `condition()` becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
