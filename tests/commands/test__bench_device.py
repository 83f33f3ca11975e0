"""`plm-edge bench --device`: estimates without a device, plans, and a run on this machine."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.bench import far
from plm_edge.cli import app
from plm_edge.device import profile
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from tests.device.conftest import sshd
from tests.device.sshd import Sshd
from tests.quantize.tiny import write_model

__all__ = ["sshd"]

SMALL = ("--depth", "0", "--prompt", "8", "--gen", "4", "--repeats", "1", "--threads", "1")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, words)])


def add(folder: Path, name: str, extends: str, *transport: str) -> None:
    target = folder / "config" / "devices" / f"{name}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = ["schema = 1", f'extends = "{extends}"', "[transport]", *transport, ""]
    target.write_text("\n".join(lines), encoding="utf-8")


def add_with_sensors(folder: Path, sshd: Sshd, there: Path) -> None:
    """A kitchen behind that wire which tells 5 W and 41 °C, and that nothing is throttled."""
    where = {
        "kind": "ssh",
        "host": "127.0.0.1",
        "user": sshd.user,
        "config_file": str(sshd.config_file),
        "folder": str(there),
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in where.items()]
    sensors = ['[power]\nread = "echo 5000; echo 1000"\nformat = "millivolts_milliamperes"']
    sensors += ['[thermal]\ntemperature = "echo 41000"\nthrottled = "echo throttled=0x0"']
    add(folder, "kitchen", "host", f"port = {sshd.port}", *lines, *sensors)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models of ö" / "m.gguf", dtype="q8_0")


def test_a_kind_of_device_gets_an_estimate_with_its_inputs() -> None:
    done = run("--device", "rpi5", "--depth", "0,1024")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("estimate for rpi5 (Raspberry Pi 5), not a measurement\n")
    for word in ("PLM-1.8B in recipe q4", "14.9 GB/s (measured", "sbc-bench", "9.1%", "at most"):
        assert word in done.stdout
    assert "to measure: plm-edge device add kitchen --extends rpi5" in done.stderr
    theory = run("--device", "snapdragon-8-gen-3").stdout
    assert "76.8 GB/s (theoretical: 64-bit LPDDR5X-9600)" in theory
    assert "measured: nobody published" in theory
    one_core = run("--device", "orangepi5").stdout
    assert "34.1 GB/s (theoretical" in one_core
    assert "measured: 18.5 GB/s, but that is one core alone" in one_core


def test_an_estimate_of_a_file_as_json(model: Path) -> None:
    done = run(model, "--device", "orangepi5", "--depth", "0,64", "--cache-type", "q8_0", "--json")
    found = json.loads(done.stdout)
    assert (found["kind"], found["device"]) == ("estimate", "orangepi5")
    assert found["bandwidth"]["is_measured"] is False
    assert [one["depth"] for one in found["estimates"]] == [0, 0, 64, 64]
    for one in found["estimates"]:
        rate = found["bandwidth"]["gigabytes_per_second"]
        expected = 1e9 * rate / one["bytes_per_token"]
        assert one["tokens_per_second"] == pytest.approx(expected)


def test_without_a_bandwidth_there_is_no_estimate() -> None:
    done = run("--device", "android-arm64")
    assert done.exit_code == 1
    assert "knows no memory bandwidth" in done.stderr


def test_an_unknown_device_and_flags_that_do_not_fit() -> None:
    assert "did you mean 'rpi5'?" in run("--device", "rpi6").stderr
    assert run("--device", "rpi5", "--suite").exit_code == 2
    assert run("--device", "rpi5", "--profile").exit_code == 2


def test_a_device_that_does_not_answer_gets_an_estimate_and_exit_3(
    own_folders: Path, model: Path
) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed")
    add(own_folders, "my $(id) pi", "rpi5", 'host = "127.0.0.1"', "port = 9")
    done = run(model, "--device", "my $(id) pi")
    assert done.exit_code == 3
    assert done.stdout.startswith("estimate for my $(id) pi")
    assert "to measure: plm-edge doctor --device 'my $(id) pi'\n" in done.stderr
    assert "no ssh server listens" in done.stderr


def test_a_dry_run_reaches_for_nothing(own_folders: Path, model: Path) -> None:
    add(own_folders, "kitchen", "rpi5", 'host = "127.0.0.1"', "port = 9")
    done = run(model, "--device", "kitchen", "--dry-run", "--repeats", "2")
    assert done.exit_code == 0, done.stderr
    assert "would run" in done.stdout and "-t 4" in done.stdout


def test_this_machine_is_a_device_too(
    engine: Engine, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "current_for", lambda device, variant: engine)
    results = model.parent / "r.jsonl"
    done = run(model, "--device", "host", *SMALL, "--results", results)
    assert done.exit_code == 0, done.stderr
    assert "device host" in done.stdout and "read bandwidth unknown" in done.stdout
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [row["test"]["kind"] for row in rows] == ["prompt", "generation", "memory"]
    assert {row["device"]["name"] for row in rows} == {"host"}
    assert rows[2]["memory"]["rss_bytes"] > 0
    shown = run("--show", "--results", results)
    assert shown.stdout == done.stdout


def test_over_a_real_wire_with_sensors(
    engine: Engine, sshd: Sshd, own_folders: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "current_for", lambda device, variant: engine)
    monkeypatch.setattr(far, "LOOK_SECONDS", 0.1)
    add_with_sensors(own_folders, sshd, model.parent / "far 'folder' $HOME")
    results = model.parent / "r.jsonl"
    # Half a second, for several looks: the tiny model writes 4000 tokens a second.
    words = ("--depth", "0", "--prompt", "0", "--gen", "2000", "--repeats", "2")
    done = run(model, "--device", "kitchen", *words, "--threads", "1", "--results", results)
    assert done.exit_code == 0, done.stderr
    for word in ("device kitchen", "5.00 W", "41 °C", "generation 2000"):
        assert word in done.stdout
    row = json.loads(results.read_text(encoding="utf-8").splitlines()[0])
    assert (row["temperature_celsius"], row["device"]["throttled_runs"]) == (41.0, 0)
    speeds = row["samples"]
    assert row["device"]["watts"] == 5.0
    assert row["device"]["joules_per_token"] == pytest.approx(5.0 / statistics.median(speeds), 0.01)


def test_an_emulated_device_shows_no_speed(
    own_folders: Path, engine_cache: Path, model: Path
) -> None:
    add(own_folders, "pretended", "rpi5", 'kind = "emulated"')
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-user is not installed")
    if build.current_for(profile.find("rpi5")) is None:
        pytest.skip("not built: plm-edge engine build --device rpi5")
    results = model.parent / "r.jsonl"
    done = run(model, "--device", "pretended", *SMALL, "--results", results)
    assert done.exit_code == 0, done.stderr
    assert "an emulator's speed means nothing" in done.stdout
    assert "tok/s" not in done.stdout
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert all(row["device"]["is_emulated"] and row["samples"] == [] for row in rows)
