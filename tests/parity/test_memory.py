"""What a server does to the cache: shift, remove, copy, save and load, several sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plm_edge.model.reference import Memory
from tests.parity.engine_process import EngineProcess
from tests.parity.models import ROUNDING, Model, ModelStore, expected
from tests.parity.tolerance import BOUNDS, Difference, assert_close

pytestmark = pytest.mark.engine

LAYOUTS = ("stock", "edge")


@pytest.fixture
def model(models: ModelStore) -> Model:
    return models.get("tiny")


def each_way(edge: EngineProcess, model: Model, steps: list[Any], **context: Any) -> Any:
    """(cache type, logits) of both layouts and all cache types."""
    for layout in LAYOUTS:
        for cache in BOUNDS:
            yield cache, edge.run(model.gguf(layout), steps, cache=cache, **context)


def test_removed_tail_is_forgotten(edge: EngineProcess, model: Model) -> None:
    tokens = model.tokens(80)
    steps = [["decode", [0, tokens[:60]]], ["remove", 0, 40, -1], ["decode", [0, tokens[60:]]]]
    for cache, logits in each_way(edge, model, steps):
        judged = expected(model.reference, [*tokens[:40], *tokens[60:]], cache)
        assert_close(logits[60:], judged[40:], BOUNDS[cache])


def test_context_shift_keeps_start_and_end(edge: EngineProcess, model: Model) -> None:
    tokens = model.tokens(90)
    steps = [
        ["decode", [0, tokens[:60]]],
        ["remove", 0, 4, 30],
        ["shift", 0, 30, 60, -26],
        ["pieces", 0, tokens[60:], 10],
    ]
    for cache, logits in each_way(edge, model, steps):
        memory = Memory(ROUNDING[cache])
        model.reference.run(tokens[:60], memory)
        memory.remove(4, 30)
        memory.shift(30, 60, -26)
        judged = model.reference.run(tokens[60:], memory)
        # Turning stored keys rounds them once more.
        bound = BOUNDS[cache]
        assert_close(logits[60:], judged, Difference(bound.overall * 2, bound.worst * 2))


def test_shift_is_not_a_no_op(edge: EngineProcess, model: Model) -> None:
    tokens = model.tokens(40)
    start: list[Any] = [["decode", [0, tokens[:30]]], ["remove", 0, 0, 10]]
    shifted = [*start, ["shift", 0, 10, 30, -10], ["decode", [0, tokens[30:]]]]
    left = edge.run(model.gguf("edge"), [*start, ["decode", [0, tokens[30:]]]])
    moved = edge.run(model.gguf("edge"), shifted)
    # Relative positions stay, so the logits stay; a shift of the keys alone would show.
    assert_close(moved[30:], left[30:], BOUNDS["f32"])
    fresh = edge.run(model.gguf("edge"), [["decode", [0, tokens[10:]]]])
    assert Difference.between(moved[30:], fresh[20:]).overall > 0.01


def test_copied_sequence_goes_its_own_way(edge: EngineProcess, model: Model) -> None:
    tokens = model.tokens(70)
    steps = [
        ["decode", [0, tokens[:40]]],
        ["copy", 0, 1],
        ["decode", [0, tokens[40:55]]],
        ["decode", [1, tokens[55:]]],
    ]
    for unified in (False, True):
        for cache, logits in each_way(edge, model, steps, n_seq_max=2, kv_unified=unified):
            first = expected(model.reference, tokens[:55], cache)
            second = expected(model.reference, [*tokens[:40], *tokens[55:]], cache)
            assert_close(logits[40:55], first[40:], BOUNDS[cache])
            assert_close(logits[55:], second[40:], BOUNDS[cache])


def test_sequences_in_one_batch_do_not_see_each_other(edge: EngineProcess, model: Model) -> None:
    one, other = model.tokens(50, seed=1), model.tokens(50, seed=2)
    steps = [
        ["decode", [0, one[:30]], [1, other[:30]]],
        *(["decode", [0, [one[i]]], [1, [other[i]]]] for i in range(30, 50)),
    ]
    for unified in (False, True):
        for cache, logits in each_way(edge, model, steps, n_seq_max=2, kv_unified=unified):
            mine = np.concatenate([logits[:30], logits[60::2]])
            theirs = np.concatenate([logits[30:60], logits[61::2]])
            assert_close(mine, expected(model.reference, one, cache), BOUNDS[cache])
            assert_close(theirs, expected(model.reference, other, cache), BOUNDS[cache])


def test_saved_state_continues_where_it_was(edge: EngineProcess, model: Model) -> None:
    tokens = model.tokens(60)
    steps = [
        ["decode", [0, tokens[:40]]],
        ["save", "here"],
        ["decode", [0, tokens[40:]]],
        ["clear"],
        ["load", "here"],
        ["decode", [0, tokens[40:]]],
    ]
    for _, logits in each_way(edge, model, steps):
        assert np.array_equal(logits[40:60], logits[60:])


def test_saved_sequence_moves_to_another(edge: EngineProcess, model: Model) -> None:
    tokens = model.tokens(60)
    steps = [
        ["decode", [0, tokens[:40]]],
        ["save_sequence", "here", 0],
        ["decode", [1, tokens[:7]]],
        ["load_sequence", "here", 1],
        ["decode", [1, tokens[40:]]],
    ]
    for cache, logits in each_way(edge, model, steps, n_seq_max=2):
        judged = expected(model.reference, tokens, cache)
        assert_close(logits[47:], judged[40:], BOUNDS[cache])


def test_saved_rows_are_latent_rows(edge: EngineProcess, models: ModelStore) -> None:
    """The state grows by what `PlmShape` says a token takes, not by stock's eightfold."""
    nano = models.get("nano")
    for cache, slack in (("f32", 1.02), ("f16", 1.02), ("q8_0", 1.05)):
        sizes = []
        for count in (100, 300):
            tokens = nano.tokens(count)
            steps = [["decode", [0, tokens]], ["save_sequence", "state", 0]]
            edge.run(nano.gguf("edge"), steps, cache=cache)
            sizes.append(edge.last["saved_bytes"]["state"])
        per_token = (sizes[1] - sizes[0]) / 200
        announced = nano.shape.cache_bytes_per_token(cache)
        assert announced <= per_token <= announced * slack + 16
