"""What is carried: the same files in a folder and in a tarball, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.device import profile
from plm_edge.engine import build, bundle, cache
from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError, SpaceError, UsageError
from tests.engine.conftest import Mini

NAMES = ["run.sh", *(f"bin/{name}" for name in bundle.PROGRAMS), "manifest.json", "NOTICES.txt"]
NAMES.append("a model.gguf")


@pytest.fixture
def engine(mini: Mini) -> Engine:
    """This machine's engine that says it is the Pi's: what is in the files plays no part here."""
    made = build.ensure("edge")
    claim = replace(made.manifest, toolchain="zig-aarch64", cpu=("aarch64", "x", "fp", "asimd"))
    cache.write_manifest(made.folder, claim)
    return cache.load(made.folder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "a model.gguf"
    path.write_bytes(b"GGUF" * 1000)
    return path


def test_a_folder_holds_programs_model_and_script(
    engine: Engine, model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new folder" / "bundle"
    planned = bundle.plan(profile.find("rpi4"), engine, model, target)
    assert [entry.name for entry in planned.entries] == NAMES
    seen: list[tuple[int, int]] = []
    bundle.write(planned, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (planned.size_bytes, planned.size_bytes)
    assert (target / "a model.gguf").read_bytes() == model.read_bytes()
    assert (target / "bin" / "llama-bench").stat().st_mode & 0o111
    script = (target / "run.sh").read_text(encoding="utf-8")
    assert "needs='fp asimd'" in script and "big_cores=4" in script
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=target, check=True)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_a_tarball_holds_the_same(engine: Engine, model: Path, tmp_path: Path, suffix: str) -> None:
    planned = bundle.plan(profile.find("rpi4"), engine, model, tmp_path / f"my pi{suffix}")
    bundle.write(planned)
    with tarfile.open(planned.target) as archive:
        assert archive.getnames() == [f"my pi/{name}" for name in [*NAMES, "SHA256SUMS"]]
    subprocess.run(["tar", "-xf", planned.target, "-C", tmp_path], check=True)
    folder = tmp_path / "my pi"
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert (folder / "run.sh").stat().st_mode & 0o111


def test_nothing_is_overwritten_and_nothing_half_written(
    engine: Engine, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a b; ls"
    target.mkdir()
    planned = bundle.plan(profile.find("rpi4"), engine, model, target)
    with pytest.raises(InputError, match="exists already") as caught:
        bundle.write(planned)
    assert caught.value.hint == f"rm -r '{target}'"
    target.rmdir()
    model.unlink()  # as if the disk went away in the middle
    for name in ("b", "b.tar"):
        with pytest.raises(InputError):
            bundle.write(replace(planned, target=tmp_path / name))
        assert not (tmp_path / name).exists()
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(SpaceError):
        bundle.write(planned)


def test_this_machines_engine_cannot_be_carried(mini: Mini, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bound to its libraries"):
        bundle.plan(profile.find("rpi4"), build.ensure("edge"), model, tmp_path / "b")
