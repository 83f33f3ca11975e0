"""Outcomes become rows: samples in order, a row per side and test, memory apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench import bandwidth, machine, plan, roofline, runner, session
from plm_edge.bench.live import Live
from plm_edge.bench.plan import Job, Rounds, Side
from plm_edge.bench.runner import Outcome
from plm_edge.bench.sampler import Observed
from plm_edge.bench.session import Bench, Model
from plm_edge.engine.cache import Engine
from plm_edge.gguf_header import read_header
from tests.quantize.tiny import write_model

TESTS = (plan.Test("prompt", 64, 0), plan.Test("generation", 8, 128))
PACE = plan.Pace({}, 40, 2)


@pytest.fixture
def bench(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Bench:
    edge, stock = tmp_path / "e.gguf", tmp_path / "s.gguf"
    models = {
        write_model(edge): Model(read_header(edge), "aa", Live({0: 0.2}, 0.2)),
        write_model(stock, layout="stock"): Model(read_header(stock), "bb"),
    }
    speeds = iter(range(100, 1000))

    def run(job: Job, engine: Engine) -> Outcome:
        observed = Observed(next(speeds), 1, 2, 50.0 + job.round, 1500.0 - job.round)
        timed = tuple((test, float(next(speeds))) for test in job.tests)
        return Outcome(job, ("llama-bench", "-m", "a b"), timed, observed)

    monkeypatch.setattr(runner, "run", run)
    rate = bandwidth.Bandwidth(40.0, 2, "2026-01-01")
    return Bench(machine.read(), rate, {"edge": engine, "stock": engine}, models)


def rounds(bench: Bench, repeats: int = 2) -> Rounds:
    edge, stock = bench.models
    sides = (Side("edge", edge, 2, "q8_0"), Side("stock", stock, 2, flash="off"))
    return Rounds(sides, TESTS, repeats, memory_context=256)


def test_a_row_per_side_and_test_with_all_samples(bench: Bench) -> None:
    found = bench.measure(rounds(bench), PACE, "case")
    assert len(found) == 2 * len(TESTS) + 2
    assert {row.run for row in found} == {bench.run}
    assert {row.case for row in found} == {"case"}
    timed = [row for row in found if row.test.kind != "memory"]
    assert all(len(row.samples) == 2 for row in timed)
    assert timed[0].samples == (101.0, 107.0)  # round 0 first, round 1 last: AB BA
    assert timed[0].command == "llama-bench -m 'a b'"
    assert (timed[0].temperature_celsius, timed[0].clock_megahertz) == (51.0, 1499.0)


def test_memory_rows_hold_memory_and_no_speed(bench: Bench) -> None:
    found = [row for row in bench.measure(rounds(bench), PACE) if row.test.kind == "memory"]
    assert [(row.test.tokens, row.samples) for row in found] == [(256, ()), (256, ())]
    assert all(row.memory is not None and row.reading is None for row in found)


def test_bytes_are_those_of_the_side(bench: Bench) -> None:
    found = bench.measure(rounds(bench), PACE)
    generation = [row for row in found if row.test.kind == "generation"]
    for row, side in zip(generation, rounds(bench).sides, strict=True):
        assert row.reading is not None
        assert row.reading.bytes_per_token == round(bench.reads(side).generation_bytes(128, 8))
    edge, stock = generation
    assert edge.reading is not None
    assert stock.reading is not None
    assert (edge.reading.live_fraction, edge.reading.live_fraction_is_measured) == (0.2, True)
    assert stock.reading.live_fraction is None
    prompts = [row for row in found if row.test.kind == "prompt"]
    assert [row.reading for row in prompts] == [None, None]


def test_without_counts_the_papers_share_is_assumed(bench: Bench) -> None:
    edge, stock = bench.models
    blind = Bench(
        bench.machine,
        bench.bandwidth,
        bench.engines,
        {path: Model(model.header, "cc") for path, model in bench.models.items()},
    )
    row = blind.measure(Rounds((Side("edge", edge, 1),), TESTS, 1), PACE)[-1]
    assert row.reading is not None
    assert row.reading.live_fraction == roofline.ASSUMED_LIVE_FRACTION
    assert not row.reading.live_fraction_is_measured
    assert (
        blind.reads(Side("edge", stock, 1)).weight_bytes
        > blind.reads(Side("edge", edge, 1)).weight_bytes
    )


def test_progress_ends_where_the_estimate_said(bench: Bench) -> None:
    seen: list[tuple[int, int]] = []
    bench.measure(rounds(bench), PACE, progress=lambda *step: seen.append(step))
    assert len(seen) == len(rounds(bench).jobs()) + 1
    assert seen[0][0] == 0
    assert seen[-1] == (seen[0][1], seen[0][1])


def test_two_runs_have_two_names(bench: Bench) -> None:
    again = session.Bench(bench.machine, bench.bandwidth, bench.engines, bench.models)
    assert bench.run != again.run
