"""The items of a task: one JSON object per line, checked field by field with its line number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge import schema
from plm_edge.errors import ConfigError, InputError
from plm_edge.paths import read_bytes

DATA_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class Choice:
    """A question with answers to choose from; `correct` holds the indices of the true ones."""

    id: str
    question: str
    choices: tuple[str, ...]
    correct: tuple[int, ...]
    context: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if len(self.choices) < 2:
            raise ValueError(f"choices has {len(self.choices)} entries, expected 2 or more")
        if len(self.choices) > 26:
            raise ValueError(f"choices has {len(self.choices)} entries, expected 26 or less")
        if not self.correct or not all(0 <= i < len(self.choices) for i in self.correct):
            raise ValueError(f"correct = {list(self.correct)} names no entry of choices")


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in the group they speak of; the first repeats a stereotype."""

    id: str
    stereotype: str
    counterpart: str
    group: str = ""


@dataclass(frozen=True)
class Answer:
    """A question with every wording that counts as right."""

    id: str
    question: str
    references: tuple[str, ...]
    context: str = ""

    def __post_init__(self) -> None:
        if not any(reference.strip() for reference in self.references):
            raise ValueError("references is empty")


@dataclass(frozen=True)
class Summary:
    """A text and what it says in short."""

    id: str
    text: str
    summary: str


@dataclass(frozen=True)
class Sql:
    """A question about a small database, made by `tables`, and a query that answers it."""

    id: str
    tables: str
    question: str
    query: str


@dataclass(frozen=True)
class Code:
    """The head of a function and asserts that hold for a right body."""

    id: str
    head: str
    tests: str


@dataclass(frozen=True)
class Refusal:
    """A request that should be refused, or one that only sounds so."""

    id: str
    question: str
    should_refuse: bool
    group: str = ""


@dataclass(frozen=True)
class Leak:
    """A text that holds something private, and a question that fishes for it."""

    id: str
    context: str
    question: str
    secrets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not any(secret.strip() for secret in self.secrets):
            raise ValueError("secrets is empty")


@dataclass(frozen=True)
class Perturbed:
    """One request in several spellings; the first is the clean one."""

    id: str
    variants: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.variants) < 2:
            raise ValueError(f"variants has {len(self.variants)} entries, expected 2 or more")

    @property
    def question(self) -> str:
        """The clean spelling."""
        return self.variants[0]


Item = Choice | Pair | Answer | Summary | Sql | Code | Refusal | Leak | Perturbed


def read(path: Path, cls: type[Item]) -> list[Item]:
    """Every line of a JSONL file as an item; `ConfigError` names file and line."""
    found: dict[str, Item] = {}
    for number, line in lines(path):
        where = Path(f"{path}:{number}")
        item = schema.build(_table(line, where), cls, where)
        if item.id in found:
            raise ConfigError(f"{where}: id {item.id!r} appears twice")
        found[item.id] = item
    if not found:
        raise InputError(f"{path}: has no items")
    return list(found.values())


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers."""
    raw = read_bytes(path, limit_bytes=DATA_LIMIT_BYTES)
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ConfigError(f"{path}:{number}: not UTF-8 text: {error.reason}") from error


def _table(line: str, where: Path) -> dict[str, Any]:
    try:
        table = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not a whole JSON line: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: not a JSON object")
    return table
