"""Becomes another program that Linux ends as soon as its parent dies, however the parent dies.

Run as a script: `python tether.py PARENT_PID PROGRAM ARGUMENT...`. A script of its own, since code
between fork and exec in a process with threads may deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, words: list[str]) -> None:
    """Replace this process by `words`, tied to the life of process `parent`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
    os.execv(words[0], words)  # noqa: S606 - a list of arguments, no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
