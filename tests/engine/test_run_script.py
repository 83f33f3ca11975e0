"""The script of a bundle, run by the shells devices have, with programs that tell their words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from plm_edge.engine import host, run_script

SHELLS = [["dash"], ["bash"], ["busybox", "sh"], ["mksh"]]
MODEL = "it's a $model.gguf"


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    words: list[str] = request.param
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    return words


def folder(tmp_path: Path, features: tuple[str, ...] | None = None, cores: int | None = 1) -> Path:
    """A bundle with programs that print their name and words."""
    made = tmp_path / "a bundle; rm"
    (made / "bin").mkdir(parents=True)
    for name in ("llama-bench", "llama-completion", "llama-server"):
        program = made / "bin" / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@"\n', encoding="utf-8")
    (made / MODEL).write_bytes(b"GGUF")
    own = (host.cpu_identity()[-1],) if features is None else features
    settings = run_script.Settings("a\nmodel", MODEL, own, cores)
    (made / "run.sh").write_text(run_script.text(settings), encoding="utf-8")
    return made


def run(shell: list[str], place: Path, *words: str, **settings: str) -> tuple[int, str, str]:
    environment = {"PATH": "/usr/bin:/bin", **settings}
    done = subprocess.run(
        [*shell, str(place / "run.sh"), *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_each_word_starts_its_program(shell: list[str], tmp_path: Path) -> None:
    place = folder(tmp_path)
    status, out, _ = run(shell, place)
    assert (status, out.splitlines()[:5]) == (
        0,
        ["llama-completion", "-m", f"./{MODEL}", "-t", "1"],
    )
    assert "-cnv" in out
    _, out, _ = run(shell, place, "serve", "--port", "9 9", CTX="512")
    lines = out.splitlines()
    assert lines[0] == "llama-server" and lines[-2:] == ["--port", "9 9"]
    assert lines[lines.index("-c") + 1] == "512"
    assert lines[lines.index("--host") + 1] == "127.0.0.1"
    _, out, _ = run(shell, place, "bench", THREADS="3")
    assert out.splitlines()[:5] == ["llama-bench", "-m", f"./{MODEL}", "-t", "3"]


def test_without_known_big_cores_all_are_used(shell: list[str], tmp_path: Path) -> None:
    _, out, _ = run(shell, folder(tmp_path, cores=None))
    # nproc heeds OMP_NUM_THREADS, which this process may have.
    done = subprocess.run(["nproc"], capture_output=True, text=True, check=True, env={})
    assert out.splitlines()[4] == done.stdout.strip()


def test_another_cpu_is_refused_with_a_sentence(shell: list[str], tmp_path: Path) -> None:
    status, out, error = run(shell, folder(tmp_path, ("nosuch", "processor", "neither")))
    assert (status, out) == (1, "")
    assert error.startswith("run.sh: this CPU (")
    assert "has no nosuch neither: bundle for another device" in error


def test_what_is_missing_or_unknown_is_said(shell: list[str], tmp_path: Path) -> None:
    place = folder(tmp_path)
    assert "run.sh: unknown: dance" in run(shell, place, "dance")[2]
    (place / MODEL).unlink()
    status, _, error = run(shell, place)
    assert status == 1
    assert f"./{MODEL} is missing" in error


def test_programs_that_cannot_run_there_are_said(shell: list[str], tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "bin" / "llama-bench").write_bytes(b"\x7fELF of another machine")
    status, _, error = run(shell, place)
    assert status == 1
    assert "programs cannot run from" in error and "/data/local/tmp" in error


def test_check_compares_every_file(shell: list[str], tmp_path: Path) -> None:
    place = folder(tmp_path)
    sums = subprocess.run(
        ["sha256sum", MODEL, "run.sh"], capture_output=True, text=True, check=True, cwd=place
    ).stdout
    (place / "SHA256SUMS").write_text(sums, encoding="utf-8")
    assert run(shell, place, "check")[0] == 0
    (place / MODEL).write_bytes(b"other")
    status, out, _ = run(shell, place, "check")
    assert (status, "FAILED" in out) == (1, True)
