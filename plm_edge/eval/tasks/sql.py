"""Runs a query that a model wrote: in memory, read only, against a clock."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import Counter
from dataclasses import dataclass

TIME_LIMIT_SECONDS = 2.0
ROW_LIMIT = 10_000
QUERY_LIMIT_CHARACTERS = 10_000
_CELL_LIMIT_BYTES = 1 << 20
_STEPS_BETWEEN_LOOKS = 10_000

_ALLOWED_ACTIONS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
# Nothing that loads code or makes huge values (zeroblob, randomblob, printf, replace).
_ALLOWED_FUNCTIONS = frozenset(
    (
        *("abs", "avg", "coalesce", "count", "group_concat", "ifnull", "iif", "instr", "length"),
        *("like", "lower", "ltrim", "max", "min", "nullif", "round", "rtrim", "substr"),
        *("substring", "sum", "total", "trim", "typeof", "upper"),
        *("date", "datetime", "julianday", "strftime", "time"),
        *("row_number", "rank", "dense_rank", "lag", "lead", "first_value", "last_value"),
    )
)

Row = tuple[object, ...]


@dataclass(frozen=True)
class Executed:
    """The rows of a query, or why there are none."""

    rows: tuple[Row, ...] = ()
    error: str = ""


def execute(tables: str, query: str) -> Executed:
    """Make the tables, then run one query that only reads."""
    connection = sqlite3.connect(":memory:")
    try:
        # Task files are downloaded too: their tables may not attach (that is, write) files.
        connection.set_authorizer(_authorize_tables)
        connection.executescript(tables)
        _confine(connection)
        if not query.strip() or len(query) > QUERY_LIMIT_CHARACTERS:
            return Executed(error=f"a query of {len(query)} characters")
        return Executed(tuple(connection.execute(query).fetchmany(ROW_LIMIT)))
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        return Executed(error=str(error) or type(error).__name__)
    finally:
        connection.close()


def _authorize_tables(action: int, *_: object) -> int:
    is_refused = action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_PRAGMA)
    return sqlite3.SQLITE_DENY if is_refused else sqlite3.SQLITE_OK


def _authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
    is_refused = action not in _ALLOWED_ACTIONS
    if action == sqlite3.SQLITE_FUNCTION:
        is_refused = (second or "").lower() not in _ALLOWED_FUNCTIONS
    return sqlite3.SQLITE_DENY if is_refused else sqlite3.SQLITE_OK


def _confine(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + TIME_LIMIT_SECONDS
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    if sys.version_info >= (3, 11):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _CELL_LIMIT_BYTES)


def same_answer(tables: str, query: str, reference: str) -> bool:
    """Whether both queries give the same rows; in the same order where the reference sorts."""
    wanted, got = execute(tables, reference), execute(tables, query)
    if wanted.error or got.error:
        return False
    if "order by" in reference.lower():
        return got.rows == wanted.rows
    return Counter(map(repr, got.rows)) == Counter(map(repr, wanted.rows))
