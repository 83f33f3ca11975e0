"""The two consoles: results go to stdout, progress and notes to stderr.

Nothing but `cli` and `commands/` prints; libraries report through `Progress` callbacks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int], None]
"""Called with (done, total) in the unit the caller named; total 0 means unknown."""


def no_progress(done: int, total: int) -> None:
    """The callback of somebody who does not want to know."""


def stdout() -> Console:
    """The console for results; plain text when stdout is not a terminal."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    """The console for progress, notes and errors."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())


def note(message: str) -> None:
    """Say something about the work on stderr."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Say on stderr what the user should know but need not act on."""
    note(f"warning: {message}")


def print_json(value: Any) -> None:
    """Write one JSON document to stdout, for machines."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
    sys.stdout.flush()  # a reader at the other end of a pipe must not wait for our end


@contextmanager
def byte_progress(label: str) -> Iterator[Progress]:
    """A progress bar in bytes with the time left, on stderr; one line when not a terminal."""
    with _bar(label, bytes_unit=True) as report:
        yield report


@contextmanager
def step_progress(label: str) -> Iterator[Progress]:
    """A progress bar in steps with the time left, on stderr; one line when not a terminal."""
    with _bar(label, bytes_unit=False) as report:
        yield report


@contextmanager
def _bar(label: str, *, bytes_unit: bool) -> Iterator[Progress]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    if not sys.stderr.isatty():
        note(f"{label} ...")
        yield no_progress
        return
    middle = [DownloadColumn(), TransferSpeedColumn()] if bytes_unit else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *middle, TimeRemainingColumn()]
    with Bar(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield report
