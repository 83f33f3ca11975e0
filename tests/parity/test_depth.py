"""Generation deep in the context, and after a context shift, against the float64 judge.

PLM's own attention (16 heads, rank 512) in two layers, weights of a trained model's scale: what the
context says moves the logits by far more than the bounds, which the last test makes sure of.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from plm_edge.model.reference import Memory
from tests.parity.engine_process import EngineProcess
from tests.parity.models import ROUNDING, Model, ModelStore, expected
from tests.parity.tolerance import BOUNDS, Difference, assert_close

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

DEPTHS = (1, 300, 1000, 4000)
SINGLE = 4  # tokens generated at each depth
AFTER = 12  # and after the shift
CONTEXT = 4096
KEPT, DROPPED = 4, 2000


@pytest.fixture(scope="module")
def model(models: ModelStore) -> Model:
    return models.get("deep")


def steps(tokens: list[int]) -> list[list[object]]:
    """Prompts up to each depth, `SINGLE` tokens one by one there, then a shift and some more."""
    todo: list[list[object]] = []
    done = 0
    for depth in DEPTHS:
        todo += [["pieces", 0, tokens[done:depth], 512]]
        todo += [["pieces", 0, tokens[depth : depth + SINGLE], 1]]
        done = depth + SINGLE
    todo += [["remove", 0, KEPT, KEPT + DROPPED], ["shift", 0, KEPT + DROPPED, done, -DROPPED]]
    return [*todo, ["pieces", 0, tokens[done:], 1]]


def prompt_length() -> int:
    return DEPTHS[-1] + SINGLE


@functools.cache
def judged(model: Model, cache: str) -> np.ndarray:
    """The judge's logits for all of `steps`."""
    tokens = model.tokens(prompt_length() + AFTER)
    memory = Memory(ROUNDING[cache])
    before = expected(model.reference, tokens[: prompt_length()], cache, memory)
    memory.remove(KEPT, KEPT + DROPPED)
    memory.shift(KEPT + DROPPED, prompt_length(), -DROPPED)
    after = [model.reference.run([token], memory) for token in tokens[prompt_length() :]]
    return np.concatenate([before, *after])


def measured(edge: EngineProcess, model: Model, cache: str, threads: int) -> np.ndarray:
    tokens = model.tokens(prompt_length() + AFTER)
    size = {"n_ctx": CONTEXT, "n_batch": 512}
    return edge.run(model.gguf("edge"), steps(tokens), cache=cache, threads=threads, **size)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cache", BOUNDS)
def test_every_depth_and_after_a_shift(
    edge: EngineProcess, model: Model, cache: str, threads: int
) -> None:
    logits, wanted, bound = (
        measured(edge, model, cache, threads),
        judged(model, cache),
        BOUNDS[cache],
    )
    for depth in DEPTHS:
        here = slice(depth, depth + SINGLE)
        assert_close(logits[here], wanted[here], bound)
    end = prompt_length()
    assert_close(logits[:end], wanted[:end], bound)
    # Turning stored keys rounds them once more.
    assert_close(logits[end:], wanted[end:], Difference(bound.overall * 2, bound.worst * 2))


@pytest.mark.parametrize("cache", BOUNDS)
def test_a_second_thread_changes_roundings_only(
    edge: EngineProcess, model: Model, cache: str
) -> None:
    one, two = (measured(edge, model, cache, threads) for threads in (1, 2))
    assert_close(two, one, BOUNDS[cache])
    assert np.array_equal(two, measured(edge, model, cache, 2))


def test_the_context_matters(model: Model) -> None:
    tokens = model.tokens(prompt_length() + AFTER)
    for depth in DEPTHS[1:]:
        alone = expected(model.reference, tokens[depth : depth + SINGLE])
        moved = Difference.between(alone, judged(model, "f32")[depth : depth + SINGLE])
        assert moved.overall > 4 * max(bound.worst for bound in BOUNDS.values())
