"""Task data: every broken line is told by its number, whole files are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.errors import ConfigError, InputError
from plm_edge.eval.tasks import items
from plm_edge.eval.tasks.items import Choice

GOOD = '{"id": "a", "question": "?", "choices": ["x", "y"], "correct": [1]}'


def read(path: Path, *lines: str) -> list[items.Item]:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return items.read(path, Choice)


def test_lines_become_items(tmp_path: Path) -> None:
    found = read(tmp_path / "d.jsonl", GOOD, "", GOOD.replace('"a"', '"b"'))
    assert found == [Choice("a", "?", ("x", "y"), (1,)), Choice("b", "?", ("x", "y"), (1,))]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "b", "question"', "not a whole JSON line"),
        ("[1]", "not a JSON object"),
        (GOOD, "'a' appears twice"),
        (GOOD.replace('"a"', '"b"').replace("[1]", "[2]"), "names no entry of choices"),
        (GOOD.replace('"a"', '"b"').replace('"question"', '"questoin"'), "unknown key 'questoin'"),
        (GOOD.replace('"a"', "7"), "expected a value of type str"),
        (GOOD.replace('["x", "y"]', '["x"]').replace("[1]", "[0]"), "expected 2 or more"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"d\.jsonl:3: ") as caught:
        read(tmp_path / "d.jsonl", GOOD, "", line)
    assert says in caught.value.message


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"d\.jsonl:2: not UTF-8"):
        items.read(path, Choice)


def test_a_file_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no items"):
        read(tmp_path / "d.jsonl", "")


@pytest.mark.parametrize(
    ("cls", "line", "says"),
    [
        (items.Answer, '{"id": "a", "question": "?", "references": []}', "references is empty"),
        (
            items.Leak,
            '{"id": "a", "context": "", "question": "", "secrets": [" "]}',
            "secrets is empty",
        ),
        (items.Perturbed, '{"id": "a", "variants": ["x"]}', "expected 2 or more"),
    ],
)
def test_items_that_judge_nothing_are_refused(
    tmp_path: Path, cls: type[items.Item], line: str, says: str
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        items.read(path, cls)
