"""`plm-edge train` as typed, without torch: what it would do, and what a recipe would cost."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from plm_edge.cli import app


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["train", *words])


def test_shipped_recipes_are_listed_and_valid() -> None:
    names = {row["name"] for row in json.loads(run("list", "--json").stdout)}
    assert {"nano", "nano-aries", "plm-1.8b"} <= names
    assert run("validate").exit_code == 0


def test_a_plan_is_an_estimate_and_speaks_json() -> None:
    plan = json.loads(run("plan", "plm-1.8b", "--flops", "1e18", "--json").stdout)
    assert plan["parameters"] == 1_825_458_176
    text = run("plan", "plm-1.8b", "--flops", "1e18").stdout
    assert "(estimate)" in text
    assert f"{plan['hours']:,.1f} h" in text


def test_dry_runs_do_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["nano", "--data", str(tmp_path / "data"), "-o", str(out), "--dry-run"]
    assert "2,400 steps of 2,048 tokens" in run("run", *words).stdout
    tokenizer = ["--tokenizer", str(tmp_path), "--dry-run"]
    assert "would write" in run("export", str(out), "-o", str(out), *tokenizer).stdout
    assert not out.exists()


def test_an_unknown_recipe_is_named() -> None:
    result = run("plan", "nanoo")
    assert result.exit_code == 1
    assert "did you mean 'nano'?" in result.stderr
