"""The pages of docs/devices, each command of them, in order, against a virtual device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.devices import page
from tests.devices.machine import free_port
from tests.devices.phone import VirtualPhone
from tests.devices.pi import VirtualPi
from tests.devices.user import ROOT, User, eventually

ALL = ("add", "probe", "doctor", "convert", "quantize", "build", "deploy", "bench", "chat")


def test_both_pages_tell_the_whole_way() -> None:
    for name in ("raspberry-pi", "android"):
        words = [word for line in page.commands(page.path_of(name)) for word in line]
        assert [word for word in (*ALL, "serve", "bundle", "remove") if word not in words] == []


@pytest.mark.slow
@pytest.mark.device
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("a76_engine")
def test_raspberry_pi(pi: VirtualPi, tmp_path: Path) -> None:
    user = User(tmp_path, {"PATH": f"{pi.bin_dir}:{os.environ['PATH']}"})
    _follow(user, "raspberry-pi", lambda: _is_serving(pi.ssh("cat /proc/[0-9]*/cmdline").stdout))


@pytest.mark.slow
@pytest.mark.device
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("a76_engine")
def test_android(phone: VirtualPhone, tmp_path: Path) -> None:
    user = User(tmp_path, phone.server.environment)

    def is_serving() -> bool:
        return _is_serving(phone.server.adb("shell", "cat /proc/[0-9]*/cmdline").stdout)

    _follow(user, "android", is_serving)


def _is_serving(command_lines: str) -> bool:
    return "llama-server" in command_lines


def _follow(user: User, name: str, is_serving: Callable[[], bool]) -> None:
    (user.folder / "models").symlink_to(ROOT / "models")
    for words in page.commands(page.path_of(name)):
        verb = next(word for word in words if word not in ("device", "engine"))
        if verb == "serve":
            _serve(user, words)
        else:
            printed = user.succeeds(*words, stdin="What is a stack?\n", seconds=600)
            _CHECKS.get(verb, _nothing_more)(user, printed)
        assert not is_serving(), f"after {words}"


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
