"""`plm-edge bench` as a user types it, on a small model and real engines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.bench import bandwidth
from plm_edge.bench.bandwidth import Bandwidth
from plm_edge.cli import app
from plm_edge.commands import _bench
from plm_edge.convert.synth import SHAPES
from plm_edge.engine import build
from plm_edge.engine.cache import Engine
from tests.quantize.tiny import write_model

SMALL = ("--depth", "0,32", "--prompt", "16", "--gen", "4", "--repeats", "2")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, words)])


@pytest.fixture
def engines(engine: Engine, stock_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    by_variant = {"edge": engine, "stock": stock_engine}
    monkeypatch.setattr(build, "current", by_variant.get)
    rate = Bandwidth(40.0, 1, "2026-01-01")
    monkeypatch.setattr(bandwidth, "measure", lambda cores: rate)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models of ö"
    write_model(folder / "m.stock.gguf", layout="stock", dtype="q8_0")
    return write_model(folder / "m.gguf", dtype="q8_0")


def test_against_stock_prints_a_table_and_keeps_rows(models: Path, engines: None) -> None:
    results = models.parent / "r.jsonl"
    words = (*SMALL, "--against", "stock", "--threads", "1", "--results", results)
    done = run(models, *words, "--cache-type", "f16,q8_0")
    assert done.exit_code == 0, done.stderr
    assert "edge: m.gguf (edge, random weights)" in done.stdout
    assert "stock: m.stock.gguf (stock, random weights)" in done.stdout
    assert "peak RSS" in done.stdout
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    # (2 caches and stock) times (2 depths of 2 tests, and memory)
    assert len(rows) == 3 * (2 * 2 + 1)
    assert {row["model"]["is_random"] for row in rows} == {True}
    assert {len(row["samples"]) for row in rows if row["test"]["kind"] != "memory"} == {2}
    shown = run("--show", "--results", results)
    assert shown.stdout == done.stdout


def test_json_has_ratios_and_the_sweep_picks_threads(models: Path, engines: None) -> None:
    done = run(models, *SMALL, "--against", "stock", "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    timed = [row for row in rows if row["test"] != "memory"]
    assert all(row["ratio"] > 0 and row["stock_tokens_per_second"] > 0 for row in timed)
    assert "finding the best thread count" in done.stderr or len(os.sched_getaffinity(0)) == 1


def test_dry_run_prints_commands_and_starts_nothing(models: Path) -> None:
    done = run(models, *SMALL, "--against", "stock", "--threads", "1", "--dry-run")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("edge   llama-bench -m '")
    assert lines[1].startswith("stock  llama-bench -m '")
    assert "would run 10 processes, about " in lines[-1]
    plan = json.loads(run(models, *SMALL, "--dry-run", "--json").stdout)
    assert len(plan["jobs"]) == 5
    suite = run("--suite", "--dry-run", "--only", "q8", "--threads", "1")
    assert "plm-random.q8.gguf" in suite.stdout


def test_show_compares_with_the_run_before_on_the_same_file(models: Path, engines: None) -> None:
    results = models.parent / "r.jsonl"
    words = ("--depth", "0", "--prompt", "0", "--gen", "4", "--repeats", "1", "--threads", "1")
    for _ in range(2):
        assert run(models, *words, "--results", results).exit_code == 0
    with results.open("a") as file:
        file.write('{"half a li')
    shown = run("--show", "--results", results)
    assert "before" in shown.stdout
    assert "not a whole JSON line, skipped" in shown.stderr
    assert "4 rows of 2 runs" in shown.stderr
    assert json.loads(run("--show", "--results", results, "--json").stdout)["rows"]
    text = results.read_text().replace('"key": "', '"key": "x', 1)
    results.write_text(text)
    write_model(models, dtype="f16")
    assert run(models, *words, "--results", results).exit_code == 0
    assert (
        "not compared with earlier rows of another file"
        in run("--show", "--results", results).stderr
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--threads", "4000"), 2, "--threads 4000: expected 1 to "),
        (("--threads", "many"), 2, "--threads 'many': expected whole numbers"),
        (("--depth", ""), 2, "--depth '': expected whole numbers"),
        (("--depth", "-1"), 2, "--depth '-1': expected whole numbers"),
        (("--cache-type", "q3"), 2, "--cache-type 'q3': expected one of f32, f16"),
        (("--prompt", "0", "--gen", "0"), 2, "leave nothing to measure"),
        (("--against", "ollama"), 2, "--against 'ollama': expected stock"),
        (("--stock-file", "x"), 2, "--stock-file needs --against stock"),
        (("--suite", "--only", "q5"), 2, "--only 'q5': expected one of q4"),
        (("--show", "--results", "/none/r.jsonl"), 1, "/none/r.jsonl: cannot read"),
    ],
)
def test_flags_that_make_no_sense(
    models: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    result = run(models, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9000]), "ends inside tensor"),
        (lambda path: write_model(path, architecture="qwen3"), "architecture"),
        (lambda path: path.unlink(), "cannot read"),
    ],
)
def test_bad_files_are_one_line(
    models: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(models)
    result = run(models, "--threads", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"plm-edge: {models}: ")
    assert message in result.stderr.splitlines()[0]


def test_without_a_file_it_says_what_to_type() -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "plm-edge: which file?"


def test_no_rows_are_said(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("")
    assert "holds no benchmark rows" in run("--show", "--results", tmp_path / "r.jsonl").stderr


def test_profile_takes_a_token_apart(models: Path, engines: None) -> None:
    words = ("--profile", "--depth", "16", "--gen", "2", "--threads", "1", "--against", "stock")
    done = run(models, *words)
    assert done.exit_code == 0, done.stderr
    for part in ("ffn", "projections", "attention", "head", "token"):
        assert f"\n {part} " in done.stdout
    assert "live neurons by layer, %: " in done.stdout
    found = json.loads(run(models, *words, "--json").stdout)
    assert [entry["engine"] for entry in found["profiles"]] == ["edge", "stock"]
    assert len(found["live_fraction_by_layer"]["m.gguf"]) == 3
    assert "would time each operation" in run(models, *words, "--dry-run").stdout


def test_suite_makes_its_models_and_prints_every_case(
    engines: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_bench, "PlmShape", lambda: SHAPES["tiny"])
    words = ("--repeats", "1", "--threads", "1", "--results", tmp_path / "r.jsonl")
    done = run("--suite", "--only", "q4,q4-k,q4-deep", *words)
    assert done.exit_code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(" q4")]
    assert [line[0] for line in lines[:6]] == ["q4", "q4", "q4", "q4-k", "q4-deep", "q4-deep"]
    # Two caches of ours and stock's: three memory lines.
    assert [line[1] for line in lines[6:]] == ["edge", "stock", "edge"]
    assert "random weights" in done.stdout
    again = run("--suite", "--only", "q4-k", *words, "--json")
    assert json.loads(again.stdout)["rows"][0]["case"] == "q4-k"
