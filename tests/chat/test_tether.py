"""A program that does not outlive whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from plm_edge.chat import tether
from tests.chat.serving import is_alive, wait_for

STARTER = """
import os, subprocess, sys, time
words = [sys.executable, sys.argv[1], str(os.getpid()), "/bin/sleep", "60"]
print(subprocess.Popen(words).pid, flush=True)
time.sleep(60)
"""


def test_the_program_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", STARTER, tether.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        became = Path(f"/proc/{child}/cmdline")
        assert wait_for(lambda: became.read_bytes() == b"/bin/sleep\x0060\x00")
        parent.kill()
    assert wait_for(lambda: not is_alive(child))


def test_an_orphan_does_not_start() -> None:
    words = [sys.executable, tether.__file__, str(os.getpid() + 1), "/bin/echo", "started"]
    done = subprocess.run(words, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
