"""What a report reads: files as a crash leaves them, files of other kinds, files of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench import rows
from plm_edge.errors import ConfigError, InputError
from plm_edge.eval import record
from plm_edge.report import inputs
from tests.quantize.tiny import write_model
from tests.report.examples import evaluation, generation, task


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl"
    rows.write(path, [generation()])
    record.write(path, evaluation())
    record.write(path, task())
    return path


def test_kinds_are_told_apart(results: Path) -> None:
    found = inputs.read([results])
    assert (len(found.bench), len(found.evals), len(found.tasks)) == (1, 1, 1)
    assert found.evals[0].values["divergence"] == evaluation().values["divergence"]
    assert found.skipped == ()


def test_half_a_last_line_is_skipped_and_said_once(results: Path) -> None:
    text = results.read_text(encoding="utf-8")
    results.write_text(text + text.splitlines()[0][:99], encoding="utf-8")
    found = inputs.read([results])
    assert len(found.bench) == 1
    assert found.skipped == (f"{results}:4: not a whole JSON line, skipped",)


def test_a_row_of_a_later_version_is_skipped_and_said(results: Path) -> None:
    text = results.read_text(encoding="utf-8").replace('"version": 1', '"version": 2')
    results.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="no result of bench, eval or tasks"):
        inputs.read([results])


def test_a_row_that_lacks_what_is_shown_is_skipped_and_said(results: Path) -> None:
    less = task("6b", baselines=None)
    record.write(results, less)
    found = inputs.read([results])
    assert len(found.tasks) == 1
    assert found.skipped == (
        f"{results}: task of {less.header.date}: baselines missing; row skipped",
    )


def test_files_of_models_and_of_inspect(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.gguf")
    activity = tmp_path / "a.json"
    activity.write_text(
        '{"tokens": 9, "zero_share": 0.5, "layers": [{"zero_share": 0.5, "never_share": 0.1}]}',
        encoding="utf-8",
    )
    found = inputs.read([model, activity])
    assert (len(found.files), found.activities[0].name) == (1, "a")
    activity.write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="not what inspect prints"):
        inputs.read([activity])
    activity.write_text('{"tokens": 9}', encoding="utf-8")
    with pytest.raises(ConfigError, match="'layers' is missing"):
        inputs.read([activity])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.jsonl: cannot read"):
        inputs.read([tmp_path / "no.jsonl"])
