"""The fixed table of `make bench`: what stock llama.cpp does with PLM, and what this engine does.

Each case names the recipe of our file and llama-quantize's own mix for stock's; the two are
quantized from the same weights. A case is one set of rounds, in which both engines take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.bench.plan import Test
from plm_edge.errors import UsageError

_GENERATED = 32
_PROMPT = 512
_TURN = 64  # what one types in a chat


@dataclass(frozen=True)
class Case:
    """One set of rounds: our recipe against stock's mix, on some tests."""

    name: str
    recipe: str
    stock_mix: str
    tests: tuple[Test, ...]
    cache_types: tuple[str, ...] = ("f16",)
    memory_context: int | None = None


def _generation(depth: int) -> Test:
    return Test("generation", _GENERATED, depth)


def _prompt(depth: int) -> Test:
    return Test("prompt", _PROMPT, depth)


CASES = (
    Case("q4", "q4", "Q4_0", (_prompt(0), _generation(0), _generation(1024))),
    Case("q8", "q8", "Q8_0", (_prompt(0), _generation(0))),
    Case("q4-k", "q4-k", "Q4_K_M", (_generation(0),)),
    Case("q4-deep", "q4", "Q4_0", (_generation(4096),), ("f16", "q8_0"), 4096),
    Case("q4-deep-prompt", "q4", "Q4_0", (_prompt(3584),)),
    Case("q4-turn", "q4", "Q4_0", tuple(Test("prompt", _TURN, depth) for depth in (1024, 4096))),
)


def chosen(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names, all without any; `UsageError` for a name that is none."""
    known = [case.name for case in CASES]
    for name in names:
        if name not in known:
            raise UsageError(f"--only {name!r}: expected one of {', '.join(known)}")
    return tuple(case for case in CASES if not names or case.name in names)
