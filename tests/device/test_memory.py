"""Memory plans: what fits, what does not, and what is said about it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from plm_edge.device import memory
from plm_edge.device.memory import Load
from plm_edge.device.probe import Facts, read
from plm_edge.errors import SpaceError
from plm_edge.shape import PlmShape
from tests.device import recorded

PLM = PlmShape()
Q4_BYTES = 1_107_000_000


def facts(available_bytes: int, lockable_bytes: float = 8 << 20) -> Facts:
    known = read(recorded.pi_5())
    return replace(
        known,
        memory_bytes=max(available_bytes, 512_000_000),
        available_bytes=available_bytes,
        lockable_bytes=lockable_bytes,
    )


def test_the_model_fits_a_pi_of_4_gb_with_its_whole_context() -> None:
    plan = memory.plan("kitchen", Load(PLM, Q4_BYTES, "f16"), facts(3_600_000_000), None)

    assert plan.context_tokens == 4096
    assert plan.cache_bytes == 4096 * 36_864
    assert plan.needed_bytes < plan.available_bytes


def test_auto_picks_the_largest_context_that_fits() -> None:
    load = Load(PLM, Q4_BYTES, "f16")
    here = facts(1_430_000_000)
    plan = memory.plan("kitchen", load, here, None)

    assert 256 <= plan.context_tokens < 4096
    assert plan.context_tokens % 256 == 0
    memory.plan("kitchen", load, here, plan.context_tokens)
    with pytest.raises(SpaceError):
        memory.plan("kitchen", load, here, plan.context_tokens + 256)


def test_a_smaller_cache_type_and_fewer_conversations_leave_more_room() -> None:
    here = facts(1_430_000_000)
    f16 = memory.largest_context(Load(PLM, Q4_BYTES, "f16"), here)
    q8 = memory.largest_context(Load(PLM, Q4_BYTES, "q8_0"), here)
    two = memory.largest_context(Load(PLM, Q4_BYTES, "f16", conversations=2), here)

    assert q8 > 1.7 * f16
    assert two <= f16 / 2


def test_a_context_that_does_not_fit_names_the_one_that_does() -> None:
    load, here = Load(PLM, Q4_BYTES, "f16"), facts(1_430_000_000)
    largest = memory.largest_context(load, here)

    with pytest.raises(SpaceError, match=r"kitchen: .* with a context of 4096 tokens") as caught:
        memory.plan("kitchen", load, here, 4096)

    assert f"pass --ctx {largest}, or --ctx auto" in str(caught.value.hint)
    assert "q8_0" in str(caught.value.hint)


def test_weights_that_do_not_fit_name_the_size_that_would() -> None:
    load, here = Load(PLM, 3_600_000_000, "f16"), facts(1_430_000_000)
    limit = memory.largest_weights(load, here)

    with pytest.raises(SpaceError, match="it would be killed") as caught:
        memory.plan("kitchen", load, here, None)

    assert f"at most {limit / 1e6:.0f} MB fits" in str(caught.value.hint)
    memory.plan("kitchen", replace(load, weights_bytes=limit), here, 256)


def test_a_device_too_small_for_any_file_says_so() -> None:
    with pytest.raises(SpaceError) as caught:
        memory.plan("zero", Load(PLM, Q4_BYTES, "f16"), facts(100_000_000), None)

    assert "not even the engine's scratch" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("available", "lockable", "is_pinned", "words"),
    [
        (3_600_000_000, 8 << 20, False, "the limit there is 8 MB"),
        (3_600_000_000, math.inf, True, "the limit there allows it"),
        (1_480_000_000, math.inf, True, "are pinned"),
        (1_400_000_000, math.inf, False, "would leave too little"),
    ],
)
def test_pinning_is_chosen_and_explained(
    available: int, lockable: float, is_pinned: bool, words: str
) -> None:
    load = Load(replace(PLM, vocab_size=32_000), Q4_BYTES, "f16")
    plan = memory.plan("kitchen", load, facts(available, lockable), None)

    assert plan.is_pinned is is_pinned
    assert plan.load_mode == ("mmap+mlock" if is_pinned else "mmap")
    assert words in plan.lines()[-1]
    assert "mmap" in plan.lines()[1]


def test_a_model_of_short_contexts_needs_no_more_than_it_has() -> None:
    shape = replace(PLM, max_position_embeddings=128)

    assert memory.plan("x", Load(shape, 1000, "f16"), facts(4 << 30), None).context_tokens == 128
