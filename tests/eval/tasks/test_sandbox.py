"""What a program a model wrote can do: compute. What it cannot: everything else, each tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.errors import InputError
from plm_edge.eval.tasks import sandbox
from plm_edge.eval.tasks.sandbox import Verdict


def test_asserts_that_hold_pass() -> None:
    program = "import math, re\nfrom collections import Counter\nprint('hello')\n"
    assert sandbox.run(program + "assert math.sqrt(4) == 2 and Counter('aa')['a'] == 2").passed


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 == 2", "AssertionError"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("import os; os._exit(0)", "ended with status 0"),
        ("x = [0] * 10**9", "MemoryError"),
        ("import socket", "ModuleNotFoundError"),
        ("open('/etc/passwd')", "PermissionError"),
        ("import os; os.listdir('/')", "PermissionError"),
        ("import os; os.fork()", "PermissionError"),
        ("import os; os.execv('/bin/true', ['true'])", "PermissionError"),
        ("import os; os.kill(os.getppid(), 0)", "PermissionError"),
        ("import os\nfor _ in range(100000): os.write(1, b'x' * 1000)", "ended with status"),
        # by ctypes, past everything that Python itself could forbid
        ("import ctypes\nassert ctypes.CDLL(None).socket(2, 1, 0) >= 0", "AssertionError"),
        ("import ctypes\nassert ctypes.CDLL(None).system(b'true') == 0", "AssertionError"),
    ],
)
def test_nothing_else_is_possible(program: str, reason: str) -> None:
    verdict = sandbox.run(program)
    assert not verdict.passed
    assert reason in verdict.reason


def test_files_cannot_be_written_or_removed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here", encoding="utf-8")
    for action in (f"open({str(victim)!r}, 'w')", f"import os; os.unlink({str(victim)!r})"):
        assert not sandbox.run(action).passed
    assert victim.read_text(encoding="utf-8") == "here"


def test_a_program_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "TIME_LIMIT_SECONDS", 1.0)
    assert sandbox.run("while True: pass") == Verdict(False, "no end after 1 s")


def test_a_machine_that_cannot_confine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.require.cache_clear()
    monkeypatch.setattr(sandbox, "run", lambda program: Verdict(False, "cannot be confined: no"))
    with pytest.raises(InputError, match="cannot be run safely"):
        sandbox.require()
