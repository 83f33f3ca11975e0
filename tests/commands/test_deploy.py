"""The whole way to a device, over a real ssh wire to this machine: add, deploy, chat, serve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from plm_edge.cli import app
from plm_edge.device.transport import Transport
from plm_edge.engine.cache import Engine
from tests.chat.conftest import endless, scripted
from tests.chat.serving import serving
from tests.chat.terminal import CTRL_C, CTRL_D, Terminal, plm_edge
from tests.device.conftest import sshd
from tests.device.processes import command_lines, wait_for
from tests.device.sshd import Sshd

__all__ = ["endless", "scripted", "sshd"]

NAME = "my $(id) 'kitchen'"
PROMPT = "\n>"


@pytest.fixture
def environment(engine: Engine, own_folders: Path) -> dict[str, str]:
    """What a `plm-edge` of its own needs: the built engine, and this test's folders."""
    return {"PLM_EDGE_CACHE": str(engine.folder.parent.parent)}


@pytest.fixture(scope="module")
def far_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept for all tests: what one of them sent the others find there."""
    return tmp_path_factory.mktemp("far") / "far $(id) folder"


@pytest.fixture
def kitchen(sshd: Sshd, far_folder: Path) -> Path:
    """A device reached by ssh that is this machine; returns its folder."""
    return add(sshd, far_folder)


@pytest.fixture
def new_kitchen(sshd: Sshd, tmp_path: Path) -> Path:
    """The same with a folder of its own, where nothing has been sent yet."""
    return add(sshd, tmp_path / "far $(id) folder")


def add(sshd: Sshd, folder: Path) -> Path:
    words = ["device", "add", NAME, "--extends", "host", "--host", f"{sshd.user}@127.0.0.1"]
    words += ["--port", str(sshd.port), "--ssh-config", str(sshd.config_file)]
    result = CliRunner().invoke(app, [*words, "--folder", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def run(*words: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        plm_edge(*words),
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        timeout=600,
    )


def servers_in(folder: Path) -> list[str]:
    return [line for line in command_lines() if line.startswith(str(folder)) and "server" in line]


@pytest.mark.engine
def test_deploy_sends_once_and_says_where(
    new_kitchen: Path, far_folder: Path, scripted: Path, environment: dict[str, str]
) -> None:
    words = ["deploy", str(scripted), "--device", NAME, "--json"]
    plan = json.loads(run(*words, "--dry-run", environment=environment).stdout)
    assert not new_kitchen.exists()

    first = run(*words, environment=environment)
    second = run(*words, environment=environment)

    sent = json.loads(first.stdout)
    assert sent["sent_bytes"] == sum(file["bytes"] for file in plan["files"]) > 0
    assert all(Path(file).is_file() for file in sent["files"])
    assert json.loads(second.stdout)["sent_bytes"] == 0
    assert "weights are mapped from the file (mmap)" in first.stderr
    if not far_folder.exists():  # no other test has sent the same yet, and none needs to
        new_kitchen.rename(far_folder)


@pytest.mark.engine
def test_chat_answers_from_the_device_and_leaves_nothing_running(
    kitchen: Path, scripted: Path, environment: dict[str, str]
) -> None:
    done = run(
        "chat",
        str(scripted),
        "--device",
        NAME,
        "-p",
        "hello",
        "-t",
        "1",
        "--ctx",
        "auto",
        environment=environment,
    )

    assert (done.returncode, done.stdout) == (0, "One two three\n"), done.stderr
    assert wait_for(lambda: servers_in(kitchen) == [])


@pytest.mark.engine
def test_a_conversation_in_the_terminal(
    kitchen: Path, endless: Path, environment: dict[str, str]
) -> None:
    command = plm_edge(
        "chat", str(endless), "--device", NAME, "-t", "1", "--ctx", "4096", "--max-tokens", "3000"
    )
    with Terminal(command, environment) as terminal:
        terminal.expect("4095 tokens of context")
        terminal.expect(PROMPT)
        terminal.line("go")
        terminal.expect("tick tock tick")
        terminal.send(CTRL_C)
        terminal.expect("(stopped)")
        terminal.expect(PROMPT)
        terminal.line("/stats")
        terminal.expect("conversation   1 exchange")
        terminal.expect(PROMPT)
        assert len(servers_in(kitchen)) == 1
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    assert wait_for(lambda: servers_in(kitchen) == [])


@pytest.mark.engine
def test_a_chat_that_is_killed_leaves_nothing_running(
    kitchen: Path, endless: Path, environment: dict[str, str]
) -> None:
    command = plm_edge("chat", str(endless), "--device", NAME, "-t", "1", "--ctx", "4096")
    with Terminal(command, environment) as terminal:
        terminal.expect(PROMPT)
        assert len(servers_in(kitchen)) == 1
        terminal.process.send_signal(signal.SIGKILL)

        assert wait_for(lambda: servers_in(kitchen) == [])


@pytest.mark.engine
def test_serve_forwards_the_devices_port_and_stops_with_the_command(
    kitchen: Path, scripted: Path, environment: dict[str, str]
) -> None:
    flags = ("--device", NAME, "--ctx", "512", "--api-key", "secret")
    with serving(scripted, environment, *flags) as running:
        body = {"messages": [{"role": "user", "content": "hi"}], "model": "x"}
        url = f"{running.base_url}/chat/completions"
        refused = httpx2.post(url, json=body, trust_env=False, timeout=60)
        assert refused.status_code == 401
        keys = {"Authorization": "Bearer secret"}
        reply = httpx2.post(url, json=body, headers=keys, trust_env=False, timeout=60).json()
        assert reply["choices"][0]["message"]["content"] == "One two three"
        [key_file] = kitchen.glob(".keys-*")
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert not any("secret" in line for line in servers_in(kitchen))

    assert wait_for(lambda: servers_in(kitchen) == [])
    assert list(kitchen.glob(".keys-*")) == []


@pytest.mark.engine
def test_a_wire_that_breaks_under_a_server_ends_both_sides(
    kitchen: Path, scripted: Path, environment: dict[str, str], sshd: Sshd
) -> None:
    with serving(scripted, environment, "--device", NAME, "--ctx", "512") as running:
        assert len(servers_in(kitchen)) == 1

        sshd.drop_connections()

        assert running.process.wait(60) == 3
        assert wait_for(lambda: servers_in(kitchen) == [])


@pytest.mark.parametrize("verb", ["chat", "serve", "deploy"])
def test_too_large_a_context_is_refused_before_anything_is_sent(
    kitchen: Path, endless: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object, **flags: object) -> None:
        raise AssertionError("sent something")

    monkeypatch.setattr(Transport, "send", refuse)
    words = [verb, str(endless), "--device", NAME, "--ctx", "99999999999"]

    done = CliRunner().invoke(app, words)

    assert done.exit_code == 1
    assert "it would be killed" in done.stderr
    assert "--ctx auto" in done.stderr


def test_a_kind_of_device_is_not_a_device(scripted: Path) -> None:
    done = CliRunner().invoke(app, ["chat", str(scripted), "--device", "rpi5", "-p", "x"])

    assert done.exit_code == 3
    assert "plm-edge device add kitchen --extends rpi5" in done.stderr


def test_a_device_serves_nobody_but_us(scripted: Path, kitchen: Path) -> None:
    words = ["serve", str(scripted), "--device", NAME, "--host", "0.0.0.0"]

    done = CliRunner().invoke(app, words)

    assert done.exit_code == 2
    assert "is reached from here alone" in done.stderr
