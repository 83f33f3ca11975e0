"""Programs are run from lists; failures name command, last lines and log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plm_edge import shell
from plm_edge.errors import MissingToolError, ToolError


def test_capture_returns_both_streams() -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr)"
    done = shell.capture([sys.executable, "-c", script], env={"X": "1"})
    assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 0)


def test_a_failed_tool_tells_its_command_and_last_lines() -> None:
    script = "import sys; [print(n) for n in range(99)]; sys.exit(7)"
    with pytest.raises(ToolError) as caught:
        shell.capture([sys.executable, "-c", script])
    assert "ended with status 7" in caught.value.message
    assert "98" in caught.value.message
    assert "\n70\n" not in caught.value.message


def test_a_missing_tool_is_named_with_its_package() -> None:
    for run in (shell.which, lambda tool: shell.capture([tool])):
        with pytest.raises(MissingToolError, match="no-such-tool is not installed"):
            run("no-such-tool")
    assert shell.missing_tool("ssh").hint == "sudo apt-get install openssh-client"
    assert shell.which("sh").name == "sh"


def test_a_tool_that_hangs_is_ended() -> None:
    with pytest.raises(ToolError, match=r"no end after 0\.2 s"):
        shell.capture(["sleep", "20"], timeout_seconds=0.2)


def test_arguments_are_never_a_shell_string() -> None:
    nasty = "a b; $(echo no) `no` 'x' \"y\" ü"
    script = "import sys; sys.stdout.write(sys.argv[1])"
    assert shell.capture([sys.executable, "-c", script, nasty]).stdout == nasty
    assert shell.quote(["echo", "a b"]) == "echo 'a b'"


def test_run_logged_keeps_a_log_and_reports_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "logs" / "x.log"
    shell.run_logged([sys.executable, "-c", "print('one')"], log, on_line=lines.append)
    assert lines == ["one"]
    assert log.read_text(encoding="utf-8").endswith("one\n")
    with pytest.raises(ToolError, match=f"full log: {log}"):
        shell.run_logged([sys.executable, "-c", "print('two'); raise SystemExit(3)"], log)
    with pytest.raises(MissingToolError):
        shell.run_logged(["no-such-tool"], log)


def test_interrupting_run_logged_ends_the_program(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from plm_edge import shell\n"
        "child = 'import os,time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "shell.run_logged([sys.executable, '-c', child], Path(sys.argv[1]))"
    )
    log = tmp_path / "x.log"
    parent = subprocess.Popen([sys.executable, "-c", script, str(log)], stderr=subprocess.DEVNULL)
    child = wait_for_number(log)
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def wait_for_number(log: Path) -> int:
    """The number on a whole line of its own; the log is there before its first line is."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        if found := re.search(r"^(\d+)\n", text, re.MULTILINE):
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError("the program did not start")
