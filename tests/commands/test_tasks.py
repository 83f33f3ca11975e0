"""`plm-edge tasks` as a user types it: the four verbs, runs on a real engine, crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.engine.cache import Engine
from plm_edge.eval import record
from tests.chat.scripted import Script, write_scripted
from tests.killed import run_killed

TOML = """# A task of one's own.
schema = 1
description = "d"
kind = "{kind}"
source = "ours"
data = "own.jsonl"
prompt = "{prompt}"
chat = {chat}
"""
CHOICES = [
    {"id": "a", "question": "q\n", "choices": ["ac", "abc"], "correct": [1]},
    {"id": "b", "question": "q\n", "choices": ["abc", "cb"], "correct": [0]},
]
QUESTIONS = [
    {"id": f"q{n}", "question": f"What, {n}?", "references": ["one two three"]} for n in range(40)
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_scripted(tmp_path / "m.gguf")


@pytest.fixture
def built(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_CACHE", str(engine.folder.parent.parent))


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["tasks", *words])


def write_task(config: Path, rows: list[dict[str, object]], kind: str, *, chat: bool) -> None:
    folder = config / "tasks"
    folder.mkdir(parents=True)
    text = TOML.format(kind=kind, prompt="{question}", chat=str(chat).lower())
    (folder / "own.toml").write_text(text, encoding="utf-8")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "own.jsonl").write_text(lines, encoding="utf-8")


def test_a_copy_brings_its_data_and_is_listed(own_folders: Path) -> None:
    config = own_folders / "config"
    assert "would copy" in run("copy", "sql", "mine", "--dry-run").stdout
    assert not config.exists()
    done = run("copy", "sql", "mine")
    assert done.stdout.split() == [str(config / "tasks/sql.jsonl"), str(config / "tasks/mine.toml")]
    rows = json.loads(run("list", "--json").stdout)
    assert {r["name"]: r["origin"] for r in rows}["mine"] == "user"
    assert run("validate", "mine").exit_code == 0
    assert run("copy", "sql", "other").stdout.split() == [str(config / "tasks/other.toml")]


def test_a_broken_line_is_named_with_its_number(own_folders: Path, tmp_path: Path) -> None:
    write_task(own_folders / "config", CHOICES, "choice", chat=False)
    data = own_folders / "config/tasks/own.jsonl"
    data.write_text(data.read_text(encoding="utf-8") + '{"id": "c", "ques', encoding="utf-8")
    done = run("validate", "own")
    assert done.exit_code == 1
    assert f"{data}:3: not a whole JSON line" in done.stderr


@pytest.mark.engine
def test_choices_are_judged_by_a_real_engine(
    built: None, own_folders: Path, tmp_path: Path
) -> None:
    model = write_scripted(tmp_path / "abc.gguf", Script(("a", "b", "c")))
    write_task(own_folders / "config", CHOICES, "choice", chat=True)
    results = tmp_path / "r.jsonl"
    words = ("run", str(model), "--task", "own", "-t", "1", "--results", str(results), "--json")
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["values"]["scores"]["accuracy"]["value"] == 1
    assert row["values"]["device"]["peak_rss_bytes"] > 1 << 20
    assert row["header"]["command"].startswith("plm-edge tasks run ")
    assert row["header"]["ctx"] == 4096
    (kept,) = record.read(results, "task").records
    assert kept.values["scores"] == row["values"]["scores"]
    assert Path(kept.values["answers"]).is_file()


@pytest.mark.engine
def test_groups_are_shown_apart(built: None, own_folders: Path, tmp_path: Path) -> None:
    model = write_scripted(tmp_path / "abc.gguf", Script(("a", "b", "c")))
    groups = ("Age/a", "Age/b") * 10
    rows = [{**CHOICES[0], "id": str(n), "group": group} for n, group in enumerate(groups)]
    write_task(own_folders / "config", rows, "choice", chat=True)
    done = run("run", str(model), "--task", "own", "-t", "1")
    assert "of Age/a" in done.stdout and "of Age/b" in done.stdout


@pytest.mark.engine
def test_written_answers_are_judged_and_timed(model: Path, built: None, own_folders: Path) -> None:
    write_task(own_folders / "config", QUESTIONS, "answer", chat=True)
    done = run("run", str(model), "--task", "own", "--limit", "3", "-t", "1")
    assert done.exit_code == 0, done.stderr
    assert " f1 " in done.stdout and "1.000" in done.stdout
    assert "out tok/s" in done.stdout


@pytest.mark.engine
def test_a_killed_run_goes_on_and_says_so(built: None, own_folders: Path, tmp_path: Path) -> None:
    slow = write_scripted(tmp_path / "slow.gguf", Script((" tick", " tock"), loops=True))
    write_task(own_folders / "config", QUESTIONS, "answer", chat=True)
    run_killed(3, "tasks", "run", str(slow), "--task", "own", "-t", "1")
    (part,) = (own_folders / "state/tasks").glob("*.part.jsonl")
    whole = part.read_bytes()
    part.write_bytes(whole[:-20])  # the last line as a crash leaves it
    answers = whole.count(b"\n") - 1
    done = run("run", str(slow), "--task", "own", "-t", "1", "--json")
    assert done.exit_code == 0, done.stderr
    assert f"own: {answers} answers were there from an interrupted run" in done.stderr
    assert "not a whole JSON line, skipped" in done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["values"]["items"], row["values"]["resumed_items"]) == (40, answers)


@pytest.mark.engine
def test_a_model_without_numbers_is_told_and_writes_no_row(
    built: None, own_folders: Path, tmp_path: Path
) -> None:
    broken = write_scripted(tmp_path / "nan.gguf", Script(certainty=float("nan")))
    write_task(own_folders / "config", CHOICES, "choice", chat=True)
    results = tmp_path / "r.jsonl"
    done = run("run", str(broken), "--task", "own", "-t", "1", "--results", str(results))
    assert done.exit_code == 1
    assert "task own, item a" in done.stderr and "not numbers" in done.stderr
    assert not results.exists()


@pytest.mark.engine
def test_published_files_run(model: Path, built: None, tmp_path: Path) -> None:
    data = tmp_path / "x_test.csv"
    data.write_text("What is 1 + 1?,1,2,3,4,B\n", encoding="utf-8")
    done = run("run", str(model), "--task", "mmlu", "--data", str(data), "-t", "1", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)[0]["values"]["items"] == 1


def test_a_dry_run_says_what_would_be_asked(model: Path) -> None:
    done = run("run", str(model), "--limit", "2", "--dry-run")
    assert "would ask 2 items of sql (sql)" in done.stdout
    assert "left out, since they bring no data: bbq" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--task", "mmlu"), 2, "brings no data"),
        (("--data", "x.csv"), 2, "--data belongs to one task"),
        (("--task", "sqll"), 1, "did you mean 'sql'?"),
        (("--task", "mmlu", "--data", "/nowhere.csv"), 1, "/nowhere.csv: cannot read"),
        (("--ctx", "100000"), 1, "was trained for 4096 tokens"),
    ],
)
def test_what_cannot_be_run_is_refused(
    model: Path, words: tuple[str, ...], status: int, says: str
) -> None:
    done = run("run", str(model), *words)
    assert done.exit_code == status
    assert says in done.stderr
