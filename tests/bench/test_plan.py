"""The order of runs, their arguments, and an estimate that is at least sane."""

from __future__ import annotations

from pathlib import Path

from plm_edge.bench import plan
from plm_edge.bench.plan import Job, Pace, Rounds, Side

EDGE = Side("edge", Path("a b.gguf"), 2, "q8_0")
STOCK = Side("stock", Path("s.gguf"), 1, flash="off")
TESTS = (
    plan.Test("prompt", 512, 0),
    plan.Test("generation", 32, 0),
    plan.Test("generation", 32, 4096),
)


def option(job: Job, name: str) -> str:
    words = job.arguments()
    return words[words.index(name) + 1]


def test_engines_take_turns_and_the_order_flips() -> None:
    jobs = Rounds((EDGE, STOCK), TESTS, 3).jobs()
    assert [job.side.variant for job in jobs[:6]] == [
        *("edge", "stock", "stock", "edge", "edge", "stock")
    ]
    assert [option(job, "-d") for job in jobs] == ["0"] * 6 + ["4096"] * 6


def test_arguments_of_a_job() -> None:
    job = Rounds((EDGE,), TESTS, 1).jobs()[0]
    assert option(job, "-m") == "a b.gguf"
    assert (option(job, "-p"), option(job, "-n"), option(job, "-t")) == ("512", "32", "2")
    assert (option(job, "-ctk"), option(job, "-ctv"), option(job, "-fa")) == (
        "q8_0",
        "q8_0",
        "auto",
    )
    deep = Rounds((STOCK,), TESTS, 1).jobs()[1]
    assert (option(deep, "-p"), option(deep, "-n"), option(deep, "-fa")) == ("0", "32", "0")


def test_memory_runs_fill_the_context_once_and_save_no_state() -> None:
    jobs = Rounds((EDGE, STOCK), TESTS, 1, memory_context=4096).jobs()[-2:]
    for job in jobs:
        assert job.measures_memory
        assert option(job, "-pg") == "4064,32"
        assert "-d" not in job.arguments()
        assert "--no-warmup" in job.arguments()


def test_the_estimate_grows_with_depth_and_size() -> None:
    file = EDGE.file
    small, large = Pace({file: 10**8}, 40, 2), Pace({file: 10**9}, 40, 2)
    shallow, deep = (Job(EDGE, (plan.Test("generation", 32, depth),), 0) for depth in (0, 4096))
    assert small.seconds(deep) < large.seconds(deep) < Pace({}, 40, 2).seconds(deep)
    assert large.seconds(shallow) < large.seconds(deep) < 600
    assert Pace({file: 0}, 40, 2).seconds(shallow) > 0
