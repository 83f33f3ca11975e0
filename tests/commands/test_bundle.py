"""`plm-edge bundle` as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.device import profile
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from tests.quantize.tiny import write_model


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["bundle", *map(str, words)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.gguf", dtype="q8_0")


def test_a_bundle_is_written_and_listed(
    engine: Engine, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = replace(engine.manifest, toolchain="zig-aarch64", cpu=("aarch64", "x", "asimd"))
    carried = replace(engine, manifest=claim)
    monkeypatch.setattr(build, "current_for", lambda device: carried)
    target = tmp_path / "out"
    assert "would write" in run(model, "--device", "rpi4", "-o", target, "--dry-run").stdout
    assert not target.exists()
    done = run(model, "--device", "rpi4", "-o", target, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert {one["name"] for one in found["files"]} >= {"run.sh", "m.gguf", "bin/llama-server"}
    again = run(model, "--device", "rpi4", "-o", target)
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)


def test_what_makes_no_bundle_is_said(model: Path, tmp_path: Path) -> None:
    done = run(model, "--device", "host", "-o", tmp_path / "b")
    assert (done.exit_code, "nothing to carry" in done.stderr) == (2, True)
    (tmp_path / "x.gguf").write_bytes(b"no")
    assert run(tmp_path / "x.gguf", "--device", "rpi5", "-o", tmp_path / "b").exit_code == 1
    assert "did you mean" in run(model, "--device", "rpi55", "-o", tmp_path / "b").stderr


def test_the_real_bundle_refuses_this_machine(
    engine_cache: Path, model: Path, tmp_path: Path
) -> None:
    if build.current_for(profile.find("rpi5")) is None:
        pytest.skip("not built: plm-edge engine build --device rpi5")
    target = tmp_path / "for my pi"
    done = run(model, "--device", "rpi5", "-o", target)
    assert done.exit_code == 0, done.stderr
    started = subprocess.run(["sh", target / "run.sh"], capture_output=True, text=True, check=False)
    if "asimddp" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this machine can run it")
    assert started.returncode == 1
    assert "this CPU (" in started.stderr
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-user is not installed")
    words = ["-m", target / "m.gguf", "-p", "4", "-n", "2", "-r", "1", "-t", "1", "-o", "json"]
    ran = subprocess.run(
        ["qemu-aarch64", "-cpu", "cortex-a76", target / "bin" / "llama-bench", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [entry["n_gen"] for entry in json.loads(ran.stdout)] == [0, 2]
