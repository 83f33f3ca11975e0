"""Answers as they come, one JSON line each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plm_edge import results, schema
from plm_edge.errors import ConfigError
from plm_edge.eval.tasks.model import Answered
from plm_edge.paths import state_dir, write_error


@dataclass(frozen=True)
class Stored:
    """One line of the store."""

    id: str
    answered: Answered


@dataclass(frozen=True)
class Settings:
    """All that an answer depends on besides the task; another one starts another store."""

    model_sha256: str
    engine: str
    machine: str
    ctx: int
    threads: int
    cache_type: str


class Store:
    """The answers of one task with one model under one set of settings."""

    def __init__(self, task_sha256: str, settings: Settings, folder: Path | None = None) -> None:
        words = json.dumps([task_sha256, asdict(settings)], sort_keys=True)
        key = hashlib.sha256(words.encode()).hexdigest()[:20]
        self.path = (folder or state_dir() / "tasks") / f"{key}.part.jsonl"
        self.skipped: list[str] = []

    def read(self) -> dict[str, Answered]:
        """The answers an interrupted run left; half lines are kept in the file and `skipped`."""
        if not self.path.exists():
            return {}
        found = results.read(self.path)
        self.skipped = list(found.skipped)
        answers = {}
        for row in found.rows:
            try:
                stored = schema.build(row, Stored, self.path)
            except ConfigError as error:
                self.skipped.append(f"{error.message}; skipped")
            else:
                answers[stored.id] = stored.answered
        return answers

    def add(self, identity: str, answered: Answered) -> None:
        """Keep one answer, whole even if the power fails after it."""
        row: dict[str, Any] = asdict(Stored(identity, answered))
        results.append(self.path, row)

    def finish(self) -> Path:
        """Give the file its final name, under which no later run takes answers from it."""
        target = self.path.with_name(self.path.name.replace(".part.", "."))
        try:
            self.path.replace(target)
        except OSError as error:
            raise write_error(target, error) from error
        return target

    def forget(self) -> None:
        """Start over."""
        self.path.unlink(missing_ok=True)
