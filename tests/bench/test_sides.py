"""Files and threads are checked before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.bench import sides
from plm_edge.bench.plan import Job, Side
from plm_edge.errors import InputError, UsageError
from plm_edge.gguf_header import read_header
from tests.quantize.tiny import SHAPE, write_model


def test_stock_runs_the_same_file_or_the_sibling_or_the_given_one(tmp_path: Path) -> None:
    same = read_header(write_model(tmp_path / "s.gguf", layout="stock"))
    assert sides.stock_sibling(same, None) == same.path
    edge = read_header(write_model(tmp_path / "m.q4.gguf"))
    with pytest.raises(InputError, match=r"no m\.q4\.stock\.gguf beside it") as caught:
        sides.stock_sibling(edge, None)
    assert caught.value.hint is not None
    assert "convert CHECKPOINT --layout stock" in caught.value.hint
    sibling = write_model(tmp_path / "m.q4.stock.gguf", layout="stock")
    assert sides.stock_sibling(edge, None) == sibling
    assert sides.stock_sibling(edge, same.path) == same.path


def test_what_stock_cannot_run_is_refused(tmp_path: Path) -> None:
    edge = read_header(write_model(tmp_path / "m.gguf"))
    with pytest.raises(InputError, match="has the edge layout, which the stock engine refuses"):
        sides.stock_sibling(edge, edge.path)
    other = write_model(
        tmp_path / "o.gguf", layout="stock", shape=replace(SHAPE, num_hidden_layers=2)
    )
    with pytest.raises(InputError, match="is a model of another shape"):
        sides.stock_sibling(edge, other)
    alien = write_model(tmp_path / "a.gguf", architecture="llama")
    with pytest.raises(InputError, match="architecture"):
        sides.check_file(alien, "edge")


def test_threads_never_exceed_the_cores() -> None:
    sides.check_threads((1, 2), 2)
    for wrong in ((3,), (1, 0)):
        with pytest.raises(UsageError, match=r"expected 1 to 2, this machine's cores"):
            sides.check_threads(wrong, 2)
    assert [sides.thread_counts(cores) for cores in (1, 2, 3, 8)] == [
        *([1], [1, 2], [1, 2, 3], [1, 2, 4, 8])
    ]


def test_each_engine_gets_its_own_best_thread_count() -> None:
    fastest = {"edge": 4, "stock": 2}
    asked: list[Job] = []

    def measure(job: Job) -> float:
        asked.append(job)
        return 10.0 - abs(job.side.threads - fastest[job.side.variant])

    both = [Side("edge", Path("e"), 4), Side("stock", Path("s"), 4, flash="off")]
    assert sides.sweep(both, 4, measure) == fastest
    assert {job.side.flash for job in asked if job.side.variant == "stock"} == {"off"}


def test_sides_multiply_threads_and_cache_types() -> None:
    found = sides.edge_sides(Path("m"), (1, 2), ("f16", "q8_0"), "auto")
    assert [(side.threads, side.cache_type) for side in found] == [
        *((1, "f16"), (2, "f16"), (1, "q8_0"), (2, "q8_0"))
    ]
    assert {side.cache_type for side in sides.stock_sides(Path("s"), (1, 2))} == {"f16"}
