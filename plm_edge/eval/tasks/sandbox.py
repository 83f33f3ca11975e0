"""Runs Python that a model wrote: in a process that can compute and answer, and nothing else.

The child (`confined.py`) takes away its own rights before it reads the program: no files, no
network, no processes (seccomp), and limits on memory, processor time and output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from plm_edge.errors import InputError

TIME_LIMIT_SECONDS = 10.0
_CHILD = Path(__file__).with_name("confined.py")
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Verdict:
    """Whether the program ran to its end with every assert held, and else why not."""

    passed: bool
    reason: str = ""


def run(program: str) -> Verdict:
    """Run a program that asserts; never raises for what the program does."""
    # A file and not a pipe: the child's limit on output holds for files alone.
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-B", str(_CHILD)],
                input=program.encode("utf-8", "replace"),
                stdout=output,
                stderr=subprocess.DEVNULL,
                env={},
                timeout=TIME_LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict(False, f"no end after {TIME_LIMIT_SECONDS:g} s")
        output.seek(0)
        return _verdict(output.read(), done.returncode)


def _verdict(output: bytes, status: int) -> Verdict:
    # The last line is the child's own; anything before it was printed by the program.
    last = output.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        table = json.loads(last)
        return Verdict(table["passed"] is True, str(table["reason"])[:_SHOWN_CHARACTERS])
    except (ValueError, TypeError, KeyError):
        return Verdict(False, f"ended with status {status}")


@cache
def require() -> None:
    """Raise `InputError` on a machine where a program cannot be confined."""
    verdict = run("assert 1 + 1 == 2")
    if not verdict.passed:
        raise InputError(
            f"code cannot be run safely on this machine: {verdict.reason}",
            hint="leave out tasks of the kind 'code', or run them on Linux on x86_64 or aarch64",
        )
