"""Only what may be compared is."""

from __future__ import annotations

from dataclasses import replace

from plm_edge.bench import compare
from plm_edge.bench.rows import Settings
from plm_edge.bench.rows import TestRef as Ref
from tests.bench.examples import MACHINE, MODEL, ROW, memory_row, row


def test_stock_stands_beside_the_same_test_of_the_same_run() -> None:
    stock = row("stock", samples=(10.0, 10.5, 10.0))
    others = [row("stock", run="r0"), row("stock", test=Ref("prompt", 512, 0))]
    others.append(row("stock", case="another"))
    found = compare.pairs([*others, ROW, stock])
    assert found[0].row == ROW
    assert found[0].stock == stock
    assert found[0].ratio is not None
    assert found[0].ratio.value == 2.1
    assert [pair.row for pair in found[1:]] == others


def test_equal_threads_are_preferred_to_stocks_best() -> None:
    slow = row("stock", settings=Settings(1, "f16", "off"))
    same = row("stock", settings=Settings(2, "f16", "off"))
    assert compare.pairs([ROW, slow, same])[0].stock == same
    assert compare.pairs([ROW, slow])[0].stock == slow


def test_a_memory_pair_has_no_ratio() -> None:
    found = compare.pairs([memory_row("edge", 5), memory_row("stock", 9)])
    assert len(found) == 1
    assert found[0].stock is not None
    assert found[0].ratio is None


def test_history_takes_the_last_comparable_row() -> None:
    first = row(run="a", samples=(10.0,))
    second = row(run="b", samples=(7.0,))
    found = compare.history(ROW, [first, second, ROW])
    assert (found.before, found.refused) == (second, ())
    assert found.ratio is not None
    assert found.ratio.value == 3.0


def test_history_says_what_it_refuses() -> None:
    elsewhere = row(run="a", machine=replace(MACHINE, key="k2", cpu="Other CPU", cores=8))
    changed = row(run="b", model=replace(MODEL, sha256="77"))
    found = compare.history(ROW, [elsewhere, changed])
    assert (found.before, found.ratio) == (None, None)
    assert found.refused == ("another file named m.gguf", "another machine (Other CPU, 8 cores)")


def test_history_looks_only_at_the_same_question() -> None:
    other = [row(run="a", settings=Settings(1, "f16", "auto")), row("stock", run="b")]
    assert compare.history(ROW, other) == compare.History(None, None, ())
