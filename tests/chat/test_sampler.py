"""Every knob of the sampler turns, on a model whose distribution is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.chat.model import ChatModel
from plm_edge.chat.sampling import Sampling
from tests.chat.scripted import Script, write_scripted

pytestmark = pytest.mark.engine

Load = Callable[..., ChatModel]


@pytest.fixture
def draw(load: Load, tmp_path: Path) -> Callable[[Sampling], list[int]]:
    """Samples thirty times from one distribution: one token has 58 %, 287 share the rest."""
    model = load(write_scripted(tmp_path / "unsure.gguf", Script(certainty=6.0)))

    def sampled(sampling: Sampling) -> list[int]:
        model.feed(model.tokenize("x\n", special=True), lambda: False)
        with model.sampler(sampling) as chain:
            return [model.sample(chain) for _ in range(30)]

    return sampled


WIDE_OPEN = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=1)


def test_sampling_repeats_with_its_seed(draw: Callable[[Sampling], list[int]]) -> None:
    assert draw(WIDE_OPEN) == draw(WIDE_OPEN)
    assert draw(WIDE_OPEN) != draw(replace(WIDE_OPEN, seed=2))


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, range(5, 31)),
        ({"temperature": 0.0}, range(1, 2)),
        ({"temperature": 0.3}, range(1, 2)),
        ({"top_k": 1}, range(1, 2)),
        ({"top_p": 0.5}, range(1, 2)),
        ({"min_p": 0.5}, range(1, 2)),
        ({"temperature": 5.0}, range(20, 31)),
    ],
)
def test_each_knob_turns(
    draw: Callable[[Sampling], list[int]], change: dict[str, float], kinds: range
) -> None:
    assert len(set(draw(replace(WIDE_OPEN, **change)))) in kinds


def test_a_repeat_penalty_makes_repeats_rare(draw: Callable[[Sampling], list[int]]) -> None:
    free = draw(WIDE_OPEN)
    favourite = max(set(free), key=free.count)
    assert free.count(favourite) > 10
    assert draw(replace(WIDE_OPEN, repeat_penalty=10.0)).count(favourite) < 5
