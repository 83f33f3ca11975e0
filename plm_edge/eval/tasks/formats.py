"""Published benchmarks in the files they are published in, read into our items.

mmlu        CSV without heading: question, A, B, C, D, letter (Hendrycks et al. 2021)
gsm8k       JSONL: question, answer ending in `#### number` (Cobbe et al. 2021)
truthfulqa  TruthfulQA.csv: Question, Best Answer, Correct Answers, … (Lin et al. 2022)
bbq         JSONL: context, question, ans0..ans2, label, category, … (Parrish et al. 2022)
hotpotqa    JSON list: _id, question, answer, context, supporting_facts (Yang et al. 2018)
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from plm_edge.errors import ConfigError, InputError
from plm_edge.eval.tasks.items import DATA_LIMIT_BYTES, Answer, Choice, Item, lines
from plm_edge.paths import read_bytes

Format = Literal["jsonl", "mmlu", "gsm8k", "truthfulqa", "bbq", "hotpotqa"]

# The kind of task each format makes; our own lines hold any.
KINDS: dict[Format, str | None] = {
    "jsonl": None,
    "mmlu": "choice",
    "gsm8k": "number",
    "truthfulqa": "choice",
    "bbq": "choice",
    "hotpotqa": "answer",
}


def read(path: Path, form: Format) -> Iterator[Item]:
    """The items of a published file; `ConfigError` names the line or entry that is broken."""
    found = False
    for where, entry in _ENTRIES[form](path):
        found = True
        try:
            yield _MAKE[form](entry, where.rpartition(":")[2])
        except KeyError as error:
            raise ConfigError(f"{where}: {form}: {error.args[0]!r} is missing") from error
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise ConfigError(f"{where}: {form}: {error}") from error
    if not found:
        raise InputError(f"{path}: has no items")


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        for row in reader:
            if row:
                yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error


def _headed_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    rows = _rows(path)
    heading = next(rows, ("", []))[1]
    for where, row in rows:
        if len(row) != len(heading):
            raise ConfigError(f"{where}: {len(row)} fields, expected {len(heading)}")
        yield where, dict(zip(heading, row, strict=True))


def _objects(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in lines(path):
        try:
            yield f"{path}:{number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}:{number}: not a whole JSON line: {error}") from error


def _list(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        entries = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: not a JSON list")
    for number, entry in enumerate(entries):
        yield f"{path}:[{number}]", entry


def _text(path: Path) -> str:
    try:
        return read_bytes(path, limit_bytes=DATA_LIMIT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error


def _mmlu(row: list[str], number: str) -> Item:
    if len(row) != 6:
        raise ValueError(f"{len(row)} fields, expected 6: question, four answers, letter")
    return Choice(number, row[0], tuple(row[1:5]), ("ABCD".index(row[5].strip()),))


def _gsm8k(entry: dict[str, str], number: str) -> Item:
    _, mark, result = entry["answer"].rpartition("####")
    if not mark:
        raise ValueError("answer does not end in '#### number'")
    return Answer(number, entry["question"], (result.strip(),))


def _truthfulqa(entry: dict[str, str], number: str) -> Item:
    best = entry["Best Answer"].strip()
    right = [best, *(text for text in _split(entry["Correct Answers"]) if text != best)]
    wrong = _split(entry["Incorrect Answers"])
    if not best or not wrong:
        raise ValueError("needs a best answer and an incorrect one")
    group = entry.get("Category", "")
    correct = tuple(range(len(right)))
    return Choice(number, entry["Question"], (*right, *wrong), correct, group=group)


def _split(texts: str) -> list[str]:
    return [text.strip() for text in texts.split(";") if text.strip()]


def _bbq(entry: dict[str, Any], number: str) -> Item:
    choices = tuple(str(entry[f"ans{index}"]) for index in range(3))
    label = entry["label"]
    if label not in (0, 1, 2):
        raise ValueError(f"label = {label!r}, expected 0, 1 or 2")
    group = f"{entry.get('category', '')}/{entry.get('context_condition', '')}".strip("/")
    return Choice(number, entry["question"], choices, (label,), entry["context"], group)


def _hotpotqa(entry: dict[str, Any], number: str) -> Item:
    wanted = {title for title, _ in entry.get("supporting_facts", [])}
    passages = [
        f"{title}: {''.join(sentences)}"
        for title, sentences in entry["context"]
        if not wanted or title in wanted
    ]
    identity = str(entry.get("_id", number))
    return Answer(identity, entry["question"], (str(entry["answer"]),), "\n".join(passages))


_ENTRIES: dict[Format, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    "mmlu": _rows,
    "gsm8k": _objects,
    "truthfulqa": _headed_rows,
    "bbq": _objects,
    "hotpotqa": _list,
}
_MAKE: dict[Format, Callable[[Any, str], Item]] = {
    "mmlu": _mmlu,
    "gsm8k": _gsm8k,
    "truthfulqa": _truthfulqa,
    "bbq": _bbq,
    "hotpotqa": _hotpotqa,
}
