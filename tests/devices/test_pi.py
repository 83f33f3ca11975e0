"""A virtual Raspberry Pi in trouble: a pulled cable, a full disk, a killed client, another CPU."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chat.scripted import Script, write_scripted
from tests.chat.terminal import CTRL_C, CTRL_D, Terminal, plm_edge
from tests.devices.conftest import started_pi
from tests.devices.machine import Board
from tests.devices.pi import HOST, VirtualPi
from tests.devices.user import User, eventually

pytestmark = [pytest.mark.slow, pytest.mark.device, pytest.mark.timeout(900)]

PART = "find .cache/plm-edge -name '.big.gguf.part' -size +2048k"


def owner(folder: Path, pi: VirtualPi) -> User:
    """Someone with this Pi in their kitchen."""
    user = User(folder, {"PATH": f"{pi.bin_dir}:{os.environ['PATH']}"})
    user.succeeds("device", "add", "kitchen", "--extends", "rpi5", "--host", f"pi@{HOST}")
    return user


@pytest.fixture
def user(pi: VirtualPi, tmp_path: Path) -> User:
    return owner(tmp_path, pi)


def runs_there(pi: VirtualPi) -> bool:
    """Whether a program of ours runs on the Pi."""
    return "llama-" in pi.machine.root_shell("for d in /proc/[0-9]*; do readlink $d/exe; done")


def test_the_probe_tells_what_it_is(user: User) -> None:
    told = json.loads(user.succeeds("device", "probe", "kitchen", "--json"))

    assert told["processor"] == "1x Cortex-A76"
    assert "asimddp" in told["features"]
    assert told["is_emulated"] is True
    assert told["fits"] is True


def test_nothing_is_sent_twice(user: User, model: Path) -> None:
    user.succeeds("deploy", str(model), "--device", "kitchen")
    again = json.loads(user.succeeds("deploy", str(model), "--device", "kitchen", "--json"))

    assert again["sent_bytes"] == 0


def test_a_pulled_cable_in_the_middle_of_a_push(pi: VirtualPi, user: User, big_model: Path) -> None:
    with user.started("deploy", str(big_model), "--device", "kitchen") as deploy:
        eventually(lambda: bool(pi.ssh(PART).stdout) or deploy.poll() is not None, 240)
        pi.machine.set_plugged(False)
        status = deploy.wait(240)
        said = deploy.stdout.read() if deploy.stdout else ""
    pi.machine.set_plugged(True)

    assert status == 3
    assert "a push goes on where it stopped" in said
    there = int(pi.ssh("stat -c %s .cache/plm-edge/models/.big.gguf.part").stdout)
    done = json.loads(user.succeeds("deploy", str(big_model), "--device", "kitchen", "--json"))
    assert done["sent_bytes"] <= big_model.stat().st_size - there
    told = pi.ssh("sha256sum .cache/plm-edge/models/big.gguf").stdout.split()[0]
    assert told == _sha256(big_model)
    pi.ssh("rm -r .cache/plm-edge/models")


def _sha256(path: Path) -> str:
    from plm_edge.device.push import local_sha256

    return local_sha256(path)


def test_a_full_disk_is_told_before_anything_is_sent(
    pi: VirtualPi, user: User, big_model: Path
) -> None:
    pi.machine.root_shell(
        "fallocate -l $(($(df -Pk / | tail -1 | mawk '{print $4}') - 20000))k /full"
    )
    said = user.fails("deploy", str(big_model), "--device", "kitchen", status=1)
    pi.machine.root_shell("rm /full")

    assert re.search(r"MB .*but .* has \d+ MB free", said)
    assert pi.ssh("ls .cache/plm-edge/models").stdout == ""


def test_a_changed_host_key_is_refused(pi: VirtualPi, user: User, tmp_path: Path) -> None:
    known = pi.bin_dir.parent / "known_hosts"
    right = known.read_text()
    known.write_text(right[: -len("AAAAAAAA\n")] + "AAAAAAAA\n")
    try:
        said = user.fails("device", "probe", "kitchen")
    finally:
        known.write_text(right)

    assert "the host key has changed" in said


def test_a_killed_client_leaves_nothing_running(pi: VirtualPi, user: User, model: Path) -> None:
    with user.started("serve", str(model), "--device", "kitchen", "--port", "0") as server:
        eventually(lambda: runs_there(pi) or server.poll() is not None, 240)
        assert server.poll() is None
        server.send_signal(signal.SIGKILL)
        server.wait()

        eventually(lambda: not runs_there(pi), 90)


def test_a_dropped_wire_leaves_nothing_running(pi: VirtualPi, user: User, model: Path) -> None:
    with user.started("serve", str(model), "--device", "kitchen", "--port", "0") as server:
        eventually(lambda: runs_there(pi) or server.poll() is not None, 240)
        assert server.poll() is None
        pi.machine.set_plugged(False)
        try:
            assert server.wait(240) == 3
            eventually(lambda: not runs_there(pi), 120)
        finally:
            pi.machine.set_plugged(True)


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(
    pi: VirtualPi, user: User, tmp_path: Path
) -> None:
    script = Script((" tick", " tock"), loops=True, context_tokens=1 << 16, name="endless")
    endless = write_scripted(tmp_path / "endless.gguf", script)
    words = ("--device", "kitchen", "--ctx", "4096", "--max-tokens", "4000")
    with Terminal(plm_edge("chat", str(endless), *words), user.whole_environment()) as chat:
        chat.expect("/help helps", 240)
        for _ in range(2):
            chat.line("go")
            chat.expect("tick tock tick", 120)
            chat.send(CTRL_C)
            chat.expect("(stopped)", 120)
        chat.expect("\n>", 60)
        chat.send(CTRL_D)
        assert chat.wait(60) == 0

    eventually(lambda: not runs_there(pi), 60)


def test_a_build_for_the_a76_is_refused_by_an_a72(model: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        old = started_pi(stack, tmp_path / "old", Board("cortex-a72"))
        user = owner(tmp_path, old)

        said = user.fails("deploy", str(model), "--device", "kitchen")
        assert "asimddp" in said
        assert "Cortex-A72" in said
        assert "SIGILL" in said
        assert "--extends rpi4 " in said
        assert old.ssh("ls .cache/plm-edge").returncode != 0

        user.succeeds("deploy", str(model), "--device", "kitchen", "--force")
        said = user.fails("chat", str(model), "--device", "kitchen", "--force", "-p", "hi")
        assert "used an instruction this CPU does not have (SIGILL)" in said
