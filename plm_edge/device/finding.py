"""One thing a doctor has to say: how bad it is, what it is, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "problem"]
"""`problem`: it will not work; `warning`: it will be slower or may fail; `note`: good to know."""


@dataclass(frozen=True)
class Finding:
    """A check and its outcome; `fix` is what to do, to paste where that is possible."""

    check: str
    level: Level
    message: str
    fix: str | None = None


def ok(check: str, message: str) -> Finding:
    """A check with nothing to complain about."""
    return Finding(check, "ok", message)
