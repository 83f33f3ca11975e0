"""ssh against a real server: running, pushing, forwarding, and all the ways it fails."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.device.push import Pusher
from plm_edge.device.ssh import SshAddress, SshTransport
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError, SpaceError
from tests.device.processes import command_lines, is_running, odd_seconds, wait_for
from tests.device.sshd import Sshd, free_port
from tests.device.test_transport import AWKWARD

needs_rsync = pytest.mark.skipif(
    shutil.which("rsync") is None, reason="rsync is not installed (apt-get install rsync)"
)


@pytest.fixture(params=[pytest.param("rsync", marks=needs_rsync), "sftp", "shell"])
def pushing(
    request: pytest.FixtureRequest, kitchen: SshTransport, monkeypatch: pytest.MonkeyPatch
) -> SshTransport:
    """A wire that pushes by rsync, one to a device that has none, one to a bare shell."""
    monkeypatch.setattr("plm_edge.device.ssh._SFTP_LOOK_SECONDS", 0.01)
    kitchen.__dict__["_has_rsync"] = request.param == "rsync"
    if request.param == "shell":
        kitchen.__dict__["_has_sftp"] = False
    return kitchen


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "my model: $(id) 'n.gguf"
    path.write_bytes(os.urandom(20_000_000))
    return path


def test_arguments_status_and_streams_cross_the_wire(kitchen: SshTransport) -> None:
    done = kitchen.run(
        ["sh", "-c", 'printf "<%s>" "$@"; echo e >&2; exit 3', *AWKWARD], check=False
    )

    assert done.stdout.rstrip("\n") == "".join(f"<{word}>" for word in AWKWARD[1:])
    assert (done.code, done.stderr) == (3, "e\n")


def test_a_status_of_255_is_the_programs_not_the_wires(kitchen: SshTransport) -> None:
    assert kitchen.run(["sh", "-c", "exit 255"], check=False).code == 255


def test_signals_show_as_in_a_shell(kitchen: SshTransport) -> None:
    done = kitchen.run(["sh", "-c", "kill -ILL $$"], check=False)

    assert done.code == 132


def test_one_connection_serves_every_command(kitchen: SshTransport, sshd: Sshd) -> None:
    for _ in range(3):
        kitchen.run(["true"])

    assert len(sshd.connections()) == 1


def test_closing_takes_the_connection_down(kitchen: SshTransport, sshd: Sshd) -> None:
    kitchen.run(["true"])

    kitchen.close()

    assert wait_for(lambda: sshd.connections() == [])


def test_a_relative_folder_is_under_the_home(address: SshAddress) -> None:
    with SshTransport("kitchen", address, ".cache/plm edge") as transport:
        home = pwd.getpwuid(os.getuid()).pw_dir  # there, $HOME is what the login makes it
        assert transport.folder == f"{home}/.cache/plm edge"


def test_push_sends_once_and_pull_brings_it_back(
    pushing: SshTransport, model: Path, tmp_path: Path
) -> None:
    far = pushing.path(model.name)
    reports: list[tuple[int, int]] = []

    pushing.push(model, far, lambda done, total: reports.append((done, total)))
    pushing.pull(far, tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == model.read_bytes()
    assert reports[-1] == (20_000_000, 20_000_000)
    assert pushing.push(model, far).sent_bytes == 0


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """rsync and sftp at 4 MB/s as long as this file exists: far from over when they are cut."""
    flag = tmp_path / "bin" / "slow"
    flag.parent.mkdir()
    flag.touch()
    for name, limit in (("sftp", "-l 32000"), ("rsync", "--bwlimit=4000")):
        if real := shutil.which(name):
            script = flag.with_name(name)
            line = f'[ ! -e "{flag}" ] || set -- {limit} "$@"; exec {real} "$@"'
            script.write_text(f"#!/bin/sh\n{line}\n")
            script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{flag.parent}:{os.environ['PATH']}")
    return flag


def test_a_push_cut_half_way_goes_on(
    pushing: SshTransport, model: Path, sshd: Sshd, slow: Path
) -> None:
    far = pushing.path(model.name)
    model.chmod(0o444)  # as in a download cache

    def cut(done: int, total: int) -> None:
        if done > 5_000_000:
            sshd.drop_connections()

    with pytest.raises(DeviceError, match="kitchen: the connection broke") as caught:
        pushing.push(model, far, cut)
    assert "goes on where it stopped" in str(caught.value.hint)
    assert not Path(far).exists()
    assert Path(far).with_name(f".{model.name}.part").stat().st_mode & 0o200
    pushing.close()
    slow.unlink()

    resumed = pushing.push(model, far)

    assert 0 < resumed.resumed_at < 20_000_000
    assert Path(far).read_bytes() == model.read_bytes()


def test_a_device_without_rsync_gets_files_as_scp_sends_them(
    kitchen: SshTransport, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen.__dict__["_has_rsync"] = False
    monkeypatch.setattr(Transport, "send", lambda *words: pytest.fail("sent through a shell"))

    kitchen.push(model, kitchen.path(model.name))

    assert Path(kitchen.path(model.name)).read_bytes() == model.read_bytes()


def test_a_device_without_sftp_still_gets_files(
    kitchen: SshTransport, model: Path, sshd: Sshd
) -> None:
    config = sshd.folder / "sshd_config"
    config.write_text(config.read_text().replace("Subsystem sftp internal-sftp\n", ""))
    starts = sshd.starts()
    os.kill(sshd.pid, signal.SIGHUP)
    kitchen.__dict__["_has_rsync"] = False
    # the port answers until the server starts anew, and then not for a moment
    assert wait_for(lambda: sshd.starts() > starts)

    kitchen.push(model, kitchen.path(model.name))

    assert Path(kitchen.path(model.name)).read_bytes() == model.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 4 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_foreseen(pushing: SshTransport, model: Path, small_disk: Path) -> None:
    with pytest.raises(SpaceError, match=r"needs 20 MB, but .*small disk has 4 MB free"):
        pushing.push(model, str(small_disk / "m.gguf"))

    assert os.listdir(small_disk) == []


def test_a_disk_that_fills_up_meanwhile_is_told(
    pushing: SshTransport, model: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pusher, "_require_space", lambda self, needed_bytes: None)

    with pytest.raises(SpaceError, match="kitchen: the disk is full"):
        pushing.push(model, str(small_disk / "m.gguf"))

    assert not (small_disk / "m.gguf").exists()


def test_a_cut_wire_leaves_nothing_running_there(kitchen: SshTransport, sshd: Sshd) -> None:
    with kitchen.start(["sleep", odd_seconds(81)]) as running:
        assert wait_for(lambda: is_running("sleep", odd_seconds(81)))

        sshd.drop_connections()

        with pytest.raises(DeviceError, match="kitchen: the connection broke"):
            running.wait(60)
    assert wait_for(lambda: not is_running("sleep", odd_seconds(81)))


def test_a_program_killed_there_is_taken_for_out_of_memory(kitchen: SshTransport) -> None:
    with pytest.raises(DeviceError, match="ran out of memory"):
        kitchen.run(["sh", "-c", "kill -KILL $$"])


def test_a_caller_that_is_killed_leaves_nothing_running(address: SshAddress) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from plm_edge.device.ssh import SshAddress, SshTransport\n"
        "address = SshAddress('127.0.0.1', sys.argv[1], int(sys.argv[2]), "
        "config_file=Path(sys.argv[3]))\n"
        f"SshTransport('kitchen', address, '/tmp').run(['sleep', '{odd_seconds(82)}'])\n"
    )
    words = [str(address.user), str(address.port), str(address.config_file)]
    caller = subprocess.Popen([sys.executable, "-c", code, *words])
    assert wait_for(lambda: is_running("sleep", odd_seconds(82)))

    caller.kill()
    caller.wait()

    assert wait_for(lambda: not is_running("sleep", odd_seconds(82)))


def test_a_port_there_is_a_port_here(kitchen: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("from afar")
    port = free_port()
    serve = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with kitchen.start([*serve, "--directory", str(tmp_path)]), kitchen.forward(port) as near:
        assert near != port
        assert wait_for(lambda: _get(near, "hello") == "from afar")

    assert _get(near, "hello") is None


def _get(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as reply:
            return str(reply.read().decode())
    except OSError:
        return None


def test_a_changed_host_key_is_refused(sshd: Sshd, kitchen: SshTransport) -> None:
    kitchen.run(["true"])
    kitchen.close()
    sshd.stop()
    known = (sshd.folder / "known_hosts").read_text()
    sshd.make_key("host_key")
    sshd.start()
    (sshd.folder / "known_hosts").write_text(known)

    with pytest.raises(DeviceError, match="host key has changed") as caught:
        kitchen.run(["true"])

    assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}'" in str(caught.value.hint)


def test_an_unknown_host_key_is_refused(sshd: Sshd, kitchen: SshTransport) -> None:
    (sshd.folder / "known_hosts").write_text("")

    with pytest.raises(DeviceError, match="host key is not known yet"):
        kitchen.run(["true"])


def test_a_key_that_is_not_accepted_is_told(sshd: Sshd, kitchen: SshTransport) -> None:
    sshd.make_key("user_key")
    (sshd.folder / "user_key.pub").unlink()

    with pytest.raises(DeviceError, match="no key of yours is accepted") as caught:
        kitchen.run(["true"])

    assert str(caught.value.hint).startswith("ssh-copy-id")


def test_nobody_listening_is_told() -> None:
    address = SshAddress("127.0.0.1", "pi", free_port())

    with pytest.raises(DeviceError, match=r"kitchen: 127\.0\.0\.1: no ssh server listens"):
        SshTransport("kitchen", address, "/tmp").run(["true"])


def test_something_else_listening_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plm_edge.device.ssh.CONNECT_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = SshAddress("127.0.0.1", "pi", silent.getsockname()[1])

        with pytest.raises(DeviceError, match="no ssh server answers"):
            SshTransport("kitchen", address, "/tmp").run(["true"])


def test_a_name_nobody_knows_is_told() -> None:
    address = SshAddress("no-such-device.invalid", "pi")

    with pytest.raises(DeviceError, match="there is no machine of that name"):
        SshTransport("kitchen", address, "/tmp").run(["true"])


@pytest.fixture
def short_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; a socket's path has 107 bytes, and pytest's own are nearly that."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def test_failures_leave_no_socket_folder(short_folder: Path) -> None:
    with pytest.raises(DeviceError):
        SshTransport("kitchen", SshAddress("127.0.0.1", "pi", free_port()), "/tmp").run(["true"])

    assert list(short_folder.iterdir()) == []


def test_folders_left_by_killed_processes_are_swept_away(
    short_folder: Path, kitchen: SshTransport
) -> None:
    old, young, used = (short_folder / f"plm-edge-ssh-{name}" for name in ("old", "young", "used"))
    for folder in (old, young, used):
        folder.mkdir()
    (used / "wire").touch()
    for folder in (old, used):
        os.utime(folder, (1, 1))

    kitchen.run(["true"])

    assert (old.exists(), young.exists(), used.exists()) == (False, True, True)


def test_lines_and_beats_can_cross_at_once(kitchen: SshTransport) -> None:
    seen: list[str] = []
    words = ["seq", "-f", f"{odd_seconds(83)} %.0f", "20000"]
    thread = threading.Thread(target=lambda: kitchen.run(words, on_line=seen.append), daemon=True)
    thread.start()
    thread.join(120)

    assert seen == [f"{odd_seconds(83)} {number}" for number in range(1, 20001)]
    # the watcher there is told to end and not waited for
    assert wait_for(lambda: not any(odd_seconds(83) in line for line in command_lines()))
