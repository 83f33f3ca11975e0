"""The pages of docs/devices, each command of them, in order, against a virtual device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.devices import page
from tests.devices.machine import free_port
from tests.devices.phone import VirtualPhone
from tests.devices.pi import HOST, VirtualPi
from tests.devices.user import ROOT, User, eventually

ALL = ("add", "probe", "doctor", "convert", "quantize", "build", "deploy", "bench", "chat")


def test_both_pages_tell_the_whole_way() -> None:
    for name in ("raspberry-pi", "android"):
        words = [word for line in page.commands(page.path_of(name)) for word in line]
        assert [word for word in (*ALL, "serve", "bundle", "remove") if word not in words] == []


class Device(Protocol):
    """A device past plm-edge: a shell there, and a hand that carries a file to it."""

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there."""

    def carry(self, path: Path) -> str:
        """Bring a file there by hand; the folder it is in then."""


@dataclass(frozen=True)
class Board:
    """The Pi, by its own ssh and scp."""

    pi: VirtualPi

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.pi.ssh(command)

    def carry(self, path: Path) -> str:
        words = [str(self.pi.bin_dir / "scp"), "-q", str(path), f"{HOST}:"]
        subprocess.run(words, check=True)
        return "/home/pi"


@dataclass(frozen=True)
class Phone:
    """The phone, by adb."""

    phone: VirtualPhone

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.phone.server.adb("shell", command, seconds=240)

    def carry(self, path: Path) -> str:
        done = self.phone.server.adb("push", str(path), "/data/local/tmp/", seconds=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return "/data/local/tmp"


@pytest.mark.slow
@pytest.mark.device
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("a76_engine")
def test_raspberry_pi(pi: VirtualPi, tmp_path: Path) -> None:
    user = User(tmp_path, {"PATH": f"{pi.bin_dir}:{os.environ['PATH']}"})
    _follow(user, "raspberry-pi", Board(pi))


@pytest.mark.slow
@pytest.mark.device
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("a76_engine")
def test_android(phone: VirtualPhone, tmp_path: Path) -> None:
    _follow(User(tmp_path, phone.server.environment), "android", Phone(phone))


def _follow(user: User, name: str, device: Device) -> None:
    (user.folder / "models").symlink_to(ROOT / "models")
    for words in page.commands(page.path_of(name)):
        verb = next(word for word in words if word not in ("device", "engine"))
        if verb == "serve":
            _serve(user, words)
        else:
            printed = user.succeeds(*words, stdin="What is a stack?\n", seconds=600)
            _CHECKS.get(verb, _nothing_more)(user, printed)
        if verb == "bundle":
            _start_bundle(user, device)
        command_lines = device.shell("cat /proc/[0-9]*/cmdline").stdout
        assert "llama-server" not in command_lines, f"after {words}"


def _start_bundle(user: User, device: Device) -> None:
    """What the page says in words: carried over, unpacked, started there."""
    (archive,) = user.folder.glob("*.tar.gz")
    there = device.carry(archive)
    folder = archive.name.removesuffix(".tar.gz")
    unpacked = device.shell(
        f"cd {there} && tar xf {archive.name} && cd {folder} && sh run.sh check"
    )
    assert unpacked.returncode == 0, unpacked.stdout + unpacked.stderr
    told = device.shell(
        f"cd {there}/{folder} && CTX=256 THREADS=1 sh run.sh chat --temp 0 -n 8 -st -p 'Hello?' "
        "</dev/null"
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Hello?" in told.stdout
    device.shell(f"rm -r {there}/{folder} {there}/{archive.name}")


def _nothing_more(user: User, printed: str) -> None:
    """Its exit status was enough."""


def _check_probe(user: User, printed: str) -> None:
    assert "Cortex-A76" in printed
    assert "fits             yes" in printed


def _check_bench(user: User, printed: str) -> None:
    assert "emulated: all" in printed
    assert "tok/s" not in printed


def _check_chat(user: User, printed: str) -> None:
    assert printed.strip()


def _check_bundle(user: User, printed: str) -> None:
    (archive,) = user.folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = [Path(name).name for name in opened.getnames()]
    assert {"run.sh", "plm.q4.gguf"} <= set(names)


def _check_remove(user: User, printed: str) -> None:
    listed = json.loads(user.succeeds("device", "list", "--json"))
    assert not {"kitchen", "my-phone"} & {row["name"] for row in listed}


_CHECKS = {
    "probe": _check_probe,
    "bench": _check_bench,
    "chat": _check_chat,
    "bundle": _check_bundle,
    "remove": _check_remove,
}


def _serve(user: User, words: list[str]) -> None:
    port = str(free_port())  # the page's may be taken here
    words = list(words)
    words[words.index("--port") + 1] = port
    with user.started(*words) as server:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(server, f"{url}/health"), 240)
        question = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        asked = urllib.request.Request(
            f"{url}/v1/chat/completions",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=120) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 4
        server.send_signal(signal.SIGINT)
        server.wait(60)


def _answers(server: subprocess.Popen[str], url: str) -> bool:
    assert server.poll() is None, server.stdout and server.stdout.read()
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
