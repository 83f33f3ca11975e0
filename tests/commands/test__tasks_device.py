"""`plm-edge tasks run --device`: scores as here, and what the device tells of itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plm_edge.bench import machine
from plm_edge.bench.sensors import Look
from plm_edge.cli import app
from plm_edge.commands import _tasks_device
from plm_edge.device import profile
from plm_edge.device.local import LocalTransport
from plm_edge.device.process import Finished
from plm_edge.device.profile import Profile
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from plm_edge.errors import DeviceError
from tests.chat.scripted import Script, write_scripted
from tests.commands.test__bench_device import add, add_with_sensors
from tests.device.conftest import sshd
from tests.device.sshd import Sshd

__all__ = ["sshd"]

TASKS = ("--task", "refusal", "--task", "truthful", "--limit", "3")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["tasks", "run", *map(str, words)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "models of ö").mkdir()
    script = Script((" I", " cannot", " help"), attention_seed=5, certainty=4.0)
    return write_scripted(tmp_path / "models of ö" / "m.gguf", script)


@pytest.fixture
def use_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "current_for", lambda *words: engine)
    monkeypatch.setattr(build, "current", lambda *words: engine)
    monkeypatch.setattr(machine, "usable_cores", lambda *words: 1)


def rows(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {row["values"]["task"]: row for row in map(json.loads, lines)}


@pytest.mark.engine
def test_this_machine_as_a_device_scores_as_this_process(use_engine: None, model: Path) -> None:
    here, there = model.parent / "here.jsonl", model.parent / "there.jsonl"
    words = (model, *TASKS, "--threads", "1")
    done = run(*words, "--results", here)
    assert done.exit_code == 0, done.stderr
    done = run(*words, "--results", there, "--device", "host")
    assert done.exit_code == 0, done.stderr
    for task, row in rows(there).items():
        values, mine = row["values"], rows(here)[task]["values"]
        assert len(values["item_scores"]) == len(mine["item_scores"]) == 3
        device = values["device"]
        assert device["name"] == "host" and device["peak_rss_bytes"] > 0
        for name in ("first_token_seconds", "total_seconds", "input_tokens_per_second"):
            assert device[name]["p50"] > 0
        assert device["cpu_percent"]["p99"] >= 0
        assert "--device host" in row["header"]["command"]
    written, mine = (rows(path)["refusal"]["values"] for path in (there, here))
    assert written["item_scores"] == mine["item_scores"]
    assert "output_tokens_per_second" in written["device"]


@pytest.mark.engine
def test_over_a_real_wire_with_sensors(
    use_engine: None, sshd: Sshd, own_folders: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tasks_device, "LOOK_SECONDS", 0.2)
    add_with_sensors(own_folders, sshd, model.parent / "far 'folder' $HOME")
    results = model.parent / "r.jsonl"
    words = (model, *TASKS, "--device", "kitchen", "--threads", "1", "--results", results)
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert "41" in done.stdout and " J" in done.stdout
    for row in rows(results).values():
        device = row["values"]["device"]
        assert (device["name"], device["temperature_celsius"]) == ("kitchen", 41.0)
        assert device["energy_joules"] > 0 and "looks at the power" in device["energy_source"]
        assert device["was_throttled"] is False
        assert device["peak_rss_bytes"] > device["peak_anonymous_bytes"] > 0
    shown = CliRunner().invoke(app, ["report", str(results), "--markdown"])
    assert "m.gguf on kitchen" in shown.stdout, shown.stderr


def test_a_dry_run_reaches_for_nothing(own_folders: Path, model: Path) -> None:
    add(own_folders, "kitchen", "rpi5", 'host = "127.0.0.1"', "port = 9")
    done = run(model, *TASKS, "--device", "kitchen", "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    assert "--device kitchen" in json.loads(done.stdout)["command"]


def test_a_device_that_does_not_answer_is_exit_3(own_folders: Path, model: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed")
    add(own_folders, "kitchen", "rpi5", 'host = "127.0.0.1"', "port = 9")
    done = run(model, *TASKS, "--device", "kitchen")
    assert (done.exit_code, "kitchen" in done.stderr) == (3, True)


@pytest.mark.engine
def test_an_emulated_device_shows_no_times(
    own_folders: Path, engine_cache: Path, model: Path
) -> None:
    add(own_folders, "pretended", "rpi5", 'kind = "emulated"')
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-user is not installed")
    if build.current_for(profile.find("rpi5")) is None:
        pytest.skip("not built: plm-edge engine build --device rpi5")
    results = model.parent / "r.jsonl"
    done = run(model, "--task", "refusal", "--limit", "1", "--device", "pretended", "--json")
    assert done.exit_code == 0, done.stderr
    device = json.loads(done.stdout)[0]["values"]["device"]
    assert device["is_emulated"] and device["peak_rss_bytes"] > 0
    assert not any("second" in name for name in device)
    assert not results.exists()


def look(at: float, spent: float, **more: Any) -> Look:
    return Look(uptime_seconds=at, processor_seconds=spent, **more)


def test_looks_become_percentiles_peaks_and_energy() -> None:
    looks = [
        look(10, 1.0, watts=4.0, temperature_celsius=40.0, memory={"VmHWM": 5, "RssAnon": 2}),
        look(12, 3.0, watts=6.0, temperature_celsius=55.0, memory={"VmHWM": 9, "RssAnon": 1}),
        look(13, 5.5, is_throttled=True),
        Look(),
    ]
    found = _tasks_device.told(looks, 20.0)
    assert _tasks_device.processor_shares(looks) == [100.0, 250.0]
    assert (found["cpu_percent"]["p50"], found["was_throttled"]) == (175.0, True)
    assert (found["peak_rss_bytes"], found["peak_anonymous_bytes"]) == (9, 2)
    assert (found["energy_joules"], found["temperature_celsius"]) == (100.0, 55.0)
    assert found["energy_source"] == "mean of 2 looks at the power"


class Broken(LocalTransport):
    """A wire that is gone."""

    def run(self, argv: Sequence[str], **_: Any) -> Finished:
        raise DeviceError(f"{self.name}: no wire for {argv[0]}")


def test_looks_at_a_device_whose_wire_is_gone_hide_no_other_error() -> None:
    facts = SimpleNamespace(big_cores=(0,), is_emulated=False)
    it: Any = SimpleNamespace(transport=Broken("kitchen"), facts=facts, profile=Profile("x"))
    with (
        pytest.raises(DeviceError, match="the server does not answer"),
        _tasks_device.Watch(it, 1).watched(),
    ):
        raise DeviceError("kitchen: the server does not answer")
    with _tasks_device.Watch(it, 1).watched() as device:
        pass
    assert device["peak_rss_bytes"] is None


def test_a_device_that_tells_nothing() -> None:
    found = _tasks_device.told([Look(), Look()], 3.0)
    assert "cpu_percent" not in found
    assert {found[name] for name in ("peak_rss_bytes", "temperature_celsius", "energy_joules")} == {
        None
    }
