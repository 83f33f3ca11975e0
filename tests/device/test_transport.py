"""The interface on the one wire that is always there: this machine's own shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge.device.local import LocalTransport
from plm_edge.errors import DeviceError, InputError, ToolError
from tests.device.processes import command_lines, is_running, odd_seconds, wait_for

AWKWARD = ["a b", "$(touch pwned)", "`id`", "'q'", '"dq"', "*", "\\", "; exit 9", "ä\n2", "-n", ""]


@pytest.fixture
def here() -> LocalTransport:
    return LocalTransport("here")


def test_arguments_arrive_as_they_are(here: LocalTransport) -> None:
    done = here.run(["printf", "<%s>", *AWKWARD])

    assert done.stdout.rstrip("\n") == "".join(f"<{word}>" for word in AWKWARD)
    assert done.stderr == ""


def test_environment_arrives(here: LocalTransport) -> None:
    done = here.run(["sh", "-c", 'echo "$ODD"'], env={"ODD": "a b; $(id)"})

    assert done.stdout == "a b; $(id)\n"


def test_lines_come_while_the_program_runs(here: LocalTransport, tmp_path: Path) -> None:
    flag = tmp_path / "seen"
    script = 'echo one; while [ ! -e "$1" ]; do sleep 0.01; done; echo two'
    seen: list[str] = []

    def on_line(line: str) -> None:
        seen.append(line)
        flag.touch()

    here.run(["sh", "-c", script, "sh", str(flag)], on_line=on_line, timeout=60)

    assert seen == ["one", "two"]


def test_output_of_both_streams_and_the_status_are_kept_apart(here: LocalTransport) -> None:
    done = here.run(["sh", "-c", "echo out; echo err >&2; exit 7"], check=False)

    assert (done.code, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_failing_program_names_the_device_and_its_last_words(here: LocalTransport) -> None:
    with pytest.raises(ToolError, match=r"here: sh -c .* ended with status 3:\nno luck"):
        here.run(["sh", "-c", "echo no luck >&2; exit 3"])


def test_a_program_that_takes_too_long_is_ended(here: LocalTransport) -> None:
    with pytest.raises(DeviceError, match=r"sleep 60\.\d+: no end after 0.2 s"):
        here.run(["sleep", odd_seconds(60)], timeout=0.2)

    assert not is_running("sleep", odd_seconds(60))


def test_a_program_that_ignores_term_is_killed(here: LocalTransport) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    name = f"stubborn-{odd_seconds(61)}"
    with here.start(["sh", "-c", script, name]) as running:
        assert next(running.lines()) == "up"
        assert any(name in line for line in command_lines())

    assert wait_for(lambda: not any(name in line for line in command_lines()))


def test_leaving_the_block_ends_the_program(here: LocalTransport) -> None:
    with here.start(["sleep", odd_seconds(62)]) as running:
        assert wait_for(lambda: is_running("sleep", odd_seconds(62)))
        assert running.is_running()

    assert not is_running("sleep", odd_seconds(62))


def test_a_killed_caller_leaves_nothing_running(tmp_path: Path) -> None:
    code = (
        "from plm_edge.device.local import LocalTransport\n"
        f"LocalTransport('here').run(['sleep', '{odd_seconds(63)}'])\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code])
    assert wait_for(lambda: is_running("sleep", odd_seconds(63)))

    caller.kill()
    caller.wait()

    assert wait_for(lambda: not is_running("sleep", odd_seconds(63)))


def test_ctrl_c_ends_the_program_there(tmp_path: Path) -> None:
    # What has come from there says that the call has begun to wait for it.
    code = (
        "from plm_edge.device.local import LocalTransport\n"
        f"words = ['sh', '-c', 'echo up; exec sleep {odd_seconds(64)}']\n"
        "LocalTransport('here').run(words, on_line=lambda line: print(line, flush=True))\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"up\n"
        assert wait_for(lambda: is_running("sleep", odd_seconds(64)))

        caller.send_signal(signal.SIGINT)

        assert caller.wait(60) == -signal.SIGINT
    assert not is_running("sleep", odd_seconds(64))


def test_a_quick_program_leaves_no_watcher(here: LocalTransport) -> None:
    name = f"quick-{odd_seconds(65)}"

    here.run(["true", name])

    assert wait_for(lambda: not any(name in line for line in command_lines()))


def test_nothing_there_is_false_or_none(here: LocalTransport, tmp_path: Path) -> None:
    missing = str(tmp_path / "no such")

    assert not here.exists(missing)
    assert here.size_bytes(missing) is None
    assert here.sha256(missing) is None
    assert here.read_text(missing) is None


def test_free_space_of_a_folder_that_is_not_there_yet(here: LocalTransport, tmp_path: Path) -> None:
    space = os.statvfs(tmp_path)

    free_bytes = here.free_bytes(str(tmp_path / "not" / "yet"))

    assert abs(free_bytes - space.f_bavail * space.f_frsize) < 1 << 30


def test_pull_brings_the_same_bytes(here: LocalTransport, tmp_path: Path) -> None:
    far, near = tmp_path / "far $(id)", tmp_path / "near"
    far.write_bytes(bytes(range(256)) * 5000)
    reports: list[tuple[int, int]] = []

    here.pull(str(far), near, lambda done, total: reports.append((done, total)))

    assert near.read_bytes() == far.read_bytes()
    assert reports[-1] == (1280000, 1280000)


def test_pull_of_nothing_leaves_nothing(here: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no such file"):
        here.pull(str(tmp_path / "missing"), tmp_path / "near")

    assert list(tmp_path.iterdir()) == []


def test_push_of_nothing_names_the_file(here: LocalTransport, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: cannot read"):
        here.push(tmp_path / "missing", str(tmp_path / "far"))
