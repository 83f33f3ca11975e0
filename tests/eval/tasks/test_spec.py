"""Task TOMLs: shipped ones hold, prompts are filled, data is found, what is asked has a hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.errors import ConfigError, InputError, UsageError
from plm_edge.eval.tasks import items, spec
from plm_edge.eval.tasks.kinds import JUDGES
from plm_edge.eval.tasks.spec import TaskSpec
from plm_edge.resources import Resource

CHOICE = items.Choice("a", "Which?", ("red", "blue"), (1,))
TEXT = """schema = 1
description = "d"
kind = "choice"
source = "s"
prompt = "{question}"
data = "t.jsonl"
"""
LINE = '{"id": "a", "question": "Which?", "choices": ["red", "blue"], "correct": [1]}\n'


def resource(folder: Path, text: str = TEXT, line: str = LINE) -> Resource:
    (folder / "t.toml").write_text(text, encoding="utf-8")
    (folder / "t.jsonl").write_text(line, encoding="utf-8")
    return Resource("tasks", "t", folder / "t.toml", "user")


def make(**changes: object) -> TaskSpec:
    values = {"description": "d", "kind": "choice", "source": "s", "prompt": "{question}"}
    return TaskSpec(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [r.name for r in resources.list_all("tasks")])
def test_shipped_tasks_load_and_have_a_judge(name: str) -> None:
    loaded = spec.load(resources.find("tasks", name))
    assert loaded.kind in JUDGES
    assert loaded.source


def test_a_prompt_takes_the_item_s_fields() -> None:
    asked = make(prompt="{context}Q: {question}\n{options}\n{{}}").ask(CHOICE)
    assert asked == "Q: Which?\nA. red\nB. blue\n{{}}"


def test_continuations_are_answers_or_letters() -> None:
    assert make().continuations(CHOICE) == [" red", " blue"]
    assert make(letters=True).continuations(CHOICE) == [" A", " B"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt": "{answer}"}, "prompt uses {answer}"),
        ({"max_tokens": 0}, "max_tokens = 0"),
        ({"system": "Be kind."}, "system needs chat"),
        ({"format": "gsm8k"}, "another kind"),
        ({"kind": "answer", "letters": True}, "letters is for"),
    ],
)
def test_specs_that_cannot_work_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**changes)


def test_the_hash_follows_data_and_prompt(tmp_path: Path) -> None:
    first = spec.load_task(resource(tmp_path)).sha256
    assert spec.load_task(resource(tmp_path)).sha256 == first
    other_prompt = spec.load_task(resource(tmp_path, TEXT.replace("{question}", "Q: {question}")))
    other_data = spec.load_task(resource(tmp_path, line=LINE.replace("red", "green")))
    assert len({first, other_prompt.sha256, other_data.sha256}) == 3


def test_a_part_of_a_task_is_another_task(tmp_path: Path) -> None:
    two = spec.load_task(resource(tmp_path, line=LINE + LINE.replace('"a"', '"b"')))
    cut = two.first(1)
    assert (len(cut.items), cut.sha256 == two.sha256) == (1, False)
    assert two.first(2) is two
    assert two.first(None) is two


def test_missing_data_says_what_to_do(tmp_path: Path) -> None:
    bring = resource(tmp_path, TEXT.replace('data = "t.jsonl"\n', ""))
    with pytest.raises(UsageError, match="brings no data") as caught:
        spec.load_task(bring)
    assert "--data" in (caught.value.hint or "")
    assert len(spec.load_task(bring, tmp_path / "t.jsonl").items) == 1
    gone = resource(tmp_path, TEXT.replace("t.jsonl", "gone.jsonl"))
    with pytest.raises(InputError, match="no such file"):
        spec.load(gone)
    outside = resource(tmp_path, TEXT.replace("t.jsonl", "../t.jsonl"))
    with pytest.raises(ConfigError, match="expected a file's name"):
        spec.load(outside)


def test_a_broken_toml_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind = 'chioce', expected one of"):
        spec.read_spec(resource(tmp_path, TEXT.replace('"choice"', '"chioce"')))
