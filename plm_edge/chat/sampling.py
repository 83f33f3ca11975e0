"""How the next token is chosen: the knobs, their defaults and their limits."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace

from plm_edge.errors import UsageError

# llama.cpp reads the largest 32-bit value as "pick one for me"; ours are always known.
SEED_LIMIT = 2**32 - 1

# The penalty looks back this many tokens (llama.cpp's own default).
PENALTY_WINDOW = 64

_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 5.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.1, 10.0),
    "max_tokens": (1, 1_000_000),
}


@dataclass(frozen=True)
class Sampling:
    """The sampler's settings; temperature 0 is greedy, top_k 0 and top_p 1 switch a filter off."""

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.05
    max_tokens: int = 1024
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"--{flag(name)} {value}: expected {low:g} to {high:g}")
        if self.seed is not None and not 0 <= self.seed < SEED_LIMIT:
            raise UsageError(f"--seed {self.seed}: expected 0 to {SEED_LIMIT - 1}")

    def with_seed(self) -> Sampling:
        """These settings with a seed that is known, so that an answer can be repeated."""
        return self if self.seed is not None else replace(self, seed=secrets.randbelow(SEED_LIMIT))

    def for_answer(self, index: int) -> Sampling:
        """The settings of the answer with this index: each one has a seed of its own."""
        assert self.seed is not None
        return replace(self, seed=(self.seed + index) % SEED_LIMIT)


def flag(name: str) -> str:
    """The command line's spelling of a field."""
    return name.replace("_", "-")
