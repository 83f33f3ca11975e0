"""Queries of a model: rows where they read, an error where they do anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.eval.tasks import sql

TABLES = "create table a(x int, y text); insert into a values (1, 'p'), (2, 'q'), (2, 'q');"


def test_rows_come_back() -> None:
    assert sql.execute(TABLES, "select x from a order by x desc").rows == ((2,), (2,), (1,))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("drop table a", "not authorized"),
        ("delete from a", "not authorized"),
        ("pragma journal_mode", "not authorized"),
        ("attach ':memory:' as b", "not authorized"),
        ("select load_extension('x')", "not authorized"),
        ("select length(zeroblob(1000000000))", "not authorized"),
        ("select 1; select 2", "one statement"),
        ("", "0 characters"),
        ("selec x", "syntax error"),
        ("select z from a", "no such column"),
    ],
)
def test_everything_but_reading_is_refused(query: str, says: str) -> None:
    assert says in sql.execute(TABLES, query).error


def test_a_query_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "TIME_LIMIT_SECONDS", 0.2)
    endless = (
        "with recursive c(n) as (select 1 union all select n + 1 from c) select count(*) from c"
    )
    assert sql.execute(TABLES, endless).error == "interrupted"


def test_a_task_s_tables_cannot_write_files(tmp_path: Path) -> None:
    target = tmp_path / "stolen.db"
    found = sql.execute(f"attach '{target}' as b; create table b.t(x)", "select 1")
    assert "not authorized" in found.error
    assert not target.exists()


def test_order_matters_only_where_the_reference_sorts() -> None:
    down, up = "select x from a order by x desc", "select x from a order by x"
    assert sql.same_answer(TABLES, down, "select x from a")
    assert not sql.same_answer(TABLES, down, up)
    assert not sql.same_answer(TABLES, "select distinct x from a", "select x from a")
    assert not sql.same_answer(TABLES, "selec", "select x from a")
