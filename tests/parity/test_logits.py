"""Logits of the engine on f32 weights against the float64 judge, in every way a prompt can go."""

from __future__ import annotations

import numpy as np
import pytest

from plm_edge.model.reference import Memory
from tests.parity.engine_process import EngineFailure, EngineProcess
from tests.parity.models import ModelStore, expected
from tests.parity.tolerance import BOUNDS, assert_close

pytestmark = pytest.mark.engine

LAYOUTS = ("stock", "edge")
# How the tokens of a prompt reach the engine: steps and the size of a physical batch.
WAYS = {
    "one batch": ([["decode", [0, None]]], 512),
    "small physical batches": ([["decode", [0, None]]], 32),
    "pieces": ([["pieces", 0, None, 37]], 512),
    "token by token": ([["pieces", 0, None, 1]], 512),
}


def steps(way: str, tokens: list[int]) -> tuple[list[list[object]], int]:
    """The steps of `way` for these tokens, and the physical batch."""
    template, batch = WAYS[way]
    filled = [
        [tokens if part is None else [0, tokens] if part == [0, None] else part for part in step]
        for step in template
    ]
    return filled, batch


@pytest.mark.parametrize("cache", BOUNDS)
@pytest.mark.parametrize("flash", ["off", "on", "auto"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_prompt_in_every_way(
    edge: EngineProcess, models: ModelStore, layout: str, flash: str, cache: str
) -> None:
    model = models.get("tiny")
    tokens = model.tokens(150)
    judged = expected(model.reference, tokens, cache)
    for way in WAYS:
        todo, batch = steps(way, tokens)
        logits = edge.run(model.gguf(layout), todo, flash=flash, cache=cache, n_ubatch=batch)
        assert_close(logits, judged, BOUNDS[cache])


@pytest.mark.parametrize("cache", BOUNDS)
@pytest.mark.parametrize(
    ("name", "seed"),
    [("one-head", 1), ("one-head", 2), ("nano", 1), ("nano", 2), ("true-shape", 1)],
)
def test_shapes_and_seeds(
    edge: EngineProcess, models: ModelStore, name: str, seed: int, cache: str
) -> None:
    model = models.get(name, seed)
    tokens = model.tokens(100, seed)
    judged = expected(model.reference, tokens, cache)
    for layout in LAYOUTS:
        todo = [["decode", [0, tokens[:-10]]], ["pieces", 0, tokens[-10:], 1]]
        logits = edge.run(model.gguf(layout), todo, cache=cache, threads=2)
        assert_close(logits, judged, BOUNDS[cache])


@pytest.mark.parametrize("cache", ["f32", "f16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dimensions_without_any_alignment(
    edge: EngineProcess, models: ModelStore, layout: str, cache: str
) -> None:
    model = models.get("odd")
    tokens = model.tokens(120)
    todo = [["decode", [0, tokens[:-20]]], ["pieces", 0, tokens[-20:], 1]]
    logits = edge.run(model.gguf(layout), todo, cache=cache)
    assert_close(logits, expected(model.reference, tokens, cache), BOUNDS[cache])


def test_cache_rows_that_blocks_do_not_divide_are_refused(
    edge: EngineProcess, models: ModelStore
) -> None:
    with pytest.raises(EngineFailure, match="no context"):
        edge.run(models.get("odd").gguf("edge"), [], cache="q8_0")


@pytest.mark.parametrize("cache", BOUNDS)
def test_prompt_as_long_as_the_context(edge: EngineProcess, models: ModelStore, cache: str) -> None:
    model = models.get("long")
    context = model.shape.max_position_embeddings
    tokens = model.tokens(context)
    judged = expected(model.reference, tokens, cache)
    todo = [["decode", [0, tokens[:-16]]], ["pieces", 0, tokens[-16:], 1]]
    size = {"n_ctx": context, "n_batch": context, "n_ubatch": 512}
    for layout in LAYOUTS:
        logits = edge.run(model.gguf(layout), todo, cache=cache, **size)
        assert_close(logits, judged, BOUNDS[cache])


@pytest.mark.parametrize("name", ["tiny", "nano", "one-head"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_greedy_tokens_are_the_judges(
    edge: EngineProcess, models: ModelStore, layout: str, name: str
) -> None:
    model = models.get(name)
    prompt = model.tokens(30, seed=7)
    logits = edge.run(model.gguf(layout), [["decode", [0, prompt]], ["greedy", 0, 40]], cache="f32")
    memory = Memory()
    last = model.reference.run(prompt, memory)[-1]
    chosen = []
    for _ in range(40):
        chosen.append(int(last.argmax()))
        last = model.reference.run([chosen[-1]], memory)[-1]
    assert logits[len(prompt) - 1 : -1].argmax(axis=1).tolist() == chosen


def test_upstream_agrees_with_the_judge(stock: EngineProcess, models: ModelStore) -> None:
    """Upstream's own graph, so that the judge is not just our reading of the model."""
    for name in ("tiny", "odd", "nano"):
        model = models.get(name)
        tokens = model.tokens(120)
        logits = stock.run(model.gguf("stock"), [["decode", [0, tokens]]], flash="off", cache="f32")
        assert_close(logits, expected(model.reference, tokens), BOUNDS["f32"])


def test_upstream_refuses_the_edge_layout(stock: EngineProcess, models: ModelStore) -> None:
    with pytest.raises(EngineFailure, match="cannot be loaded"):
        stock.run(models.get("tiny").gguf("edge"), [])


def test_threads_change_nothing_of_substance(edge: EngineProcess, models: ModelStore) -> None:
    model = models.get("nano")
    tokens = model.tokens(70)
    one, three = (
        edge.run(model.gguf("edge"), [["decode", [0, tokens]]], threads=n) for n in (1, 3)
    )
    assert np.allclose(one, three, rtol=0, atol=1e-3)
    assert one.argmax(axis=1).tolist() == three.argmax(axis=1).tolist()
