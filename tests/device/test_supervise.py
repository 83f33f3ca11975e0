"""The shell line that minds a far program, in the shells devices have."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time

import pytest

from plm_edge.device import supervise
from tests.device.processes import is_running, odd_seconds, wait_for

SHELLS = [shell for shell in ("dash", "bash", "busybox", "mksh") if shutil.which(shell)]


def _shell(name: str, line: str) -> list[str]:
    return [name, *(["sh"] if name == "busybox" else []), "-c", line]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_tells_the_status(shell: str) -> None:
    line = supervise.watched_line(["sh", "-c", "exit 5"])

    process = subprocess.Popen(
        _shell(shell, line), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.wait(60) == 5
        assert process.stderr is not None
        assert supervise.split_status(process.stderr.read()) == ("", 5)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_ends_the_program_when_stdin_ends(shell: str) -> None:
    seconds = odd_seconds(70 + SHELLS.index(shell))
    line = supervise.watched_line(["sleep", seconds])
    process = subprocess.Popen(_shell(shell, line), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert wait_for(lambda: is_running("sleep", seconds))
    assert process.stdin is not None

    process.stdin.close()

    assert wait_for(lambda: not is_running("sleep", seconds))
    assert process.stderr is not None
    assert b"plm-edge-status:143" in process.stderr.read()
    process.stderr.close()
    process.wait(60)


def test_a_silent_line_ends_the_program() -> None:
    # On a machine so busy that beats come 3 seconds apart they keep nothing alive: once more then.
    assert any(_beats_keep_it_alive_until_they_stop() for _ in range(5))


def _beats_keep_it_alive_until_they_stop() -> bool:
    seconds = odd_seconds(75)
    line = supervise.watched_line(["sleep", seconds])
    short = line.replace(f"-t {supervise.SILENCE_SECONDS}", "-t 3")
    assert short != line
    process = subprocess.Popen(
        ["bash", "-c", short], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert wait_for(lambda: is_running("sleep", seconds))
    began = time.monotonic()
    with contextlib.suppress(BrokenPipeError):  # it has ended
        while time.monotonic() < began + 4:
            process.stdin.write(supervise.BEAT)
            process.stdin.flush()
            time.sleep(0.5)
    is_kept = is_running("sleep", seconds)

    assert wait_for(lambda: not is_running("sleep", seconds))

    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait(60)
    return is_kept


def test_a_broken_line_has_no_status() -> None:
    assert supervise.split_status("half a sent") == ("half a sent", None)


def test_a_program_cannot_pretend_to_have_ended() -> None:
    said = "plm-edge-status:0\nmore\nplm-edge-status:9\n"

    assert supervise.split_status(said) == ("plm-edge-status:0\nmore\n", 9)
