"""The lock: one holder, told waiters, and children that keep it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from plm_edge.engine.lock import held_if_free, is_locked, locked
from plm_edge.errors import InputError


def test_a_second_holder_waits_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "x.lock"
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        def on_wait() -> None:
            order.append("waits")
            waiting.set()

        with locked(path, on_wait):
            order.append("second")

    with locked(path, lambda: order.append("never")):
        assert is_locked(path)
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["waits", "first", "second"]
    assert not is_locked(path)


def test_a_child_that_inherited_the_lock_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    command = [sys.executable, "-c", "input()"]
    with locked(path, lambda: None) as handle:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(handle,))
    assert is_locked(path)
    child.communicate(b"\n", timeout=120)
    assert not is_locked(path)


def test_held_if_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with held_if_free(path, needed=True) as free:
        assert free
        with held_if_free(path, needed=True) as again:
            assert not again
        with held_if_free(path, needed=False) as unneeded:
            assert unneeded


def test_a_read_only_folder_is_an_error_that_names_it() -> None:
    with (
        pytest.raises(InputError, match="/sys/plm-edge"),
        locked(Path("/sys/plm-edge/x.lock"), lambda: None),
    ):
        pass
    with (
        pytest.raises(InputError, match="/sys/plm-edge"),
        held_if_free(Path("/sys/plm-edge.lock"), needed=True),
    ):
        pass
    assert not is_locked(Path("/sys/plm-edge.lock"))
