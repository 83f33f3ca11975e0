"""Learning rate over training: Warmup-Stable-Decay-Constant (PLM), and what it is compared with.

PLM's shares are public (66.5 % stable, 22.2 % decay, 11.3 % constant; peak to floor 60 : 1), the
form of its decay is not: `decay` is a named choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["wsdc", "wsd", "cosine", "constant"]
Decay = Literal["cosine", "linear", "exponential"]


@dataclass(frozen=True)
class Schedule:
    """A learning rate for every step; shares are of the steps after none, warm-up included."""

    kind: Kind = "wsdc"
    peak: float = 3e-4
    floor_ratio: float = 1 / 60
    warmup_share: float = 0.01
    stable_share: float = 0.665
    decay_share: float = 0.222
    decay: Decay = "cosine"

    def __post_init__(self) -> None:
        if not self.peak > 0:
            raise ValueError(f"peak = {self.peak}, expected a positive rate")
        if not 0 < self.floor_ratio <= 1:
            raise ValueError(f"floor_ratio = {self.floor_ratio}, expected 0 to 1")
        if not 0 <= self.warmup_share <= self.stable_share:
            raise ValueError(f"warmup_share = {self.warmup_share}, expected 0 to stable_share")
        if self.stable_share + self.decay_share > 1:
            raise ValueError("stable_share + decay_share is above 1")

    def rate(self, step: int, steps: int) -> float:
        """The rate of step 0 ≤ `step` < `steps`."""
        warmup = max(1, round(self.warmup_share * steps))
        if step < warmup and self.warmup_share > 0:
            return self.peak * (step + 1) / warmup
        if self.kind == "constant":
            return self.peak
        start, end = self._decay_span(steps, warmup)
        progress = min(max((step - start) / max(end - start, 1), 0.0), 1.0)
        return self.peak * self._form(progress)

    def _decay_span(self, steps: int, warmup: int) -> tuple[float, float]:
        if self.kind == "cosine":
            return warmup, steps
        if self.kind == "wsd":  # no constant tail: what PLM adds to WSD
            return (1 - self.decay_share) * steps, steps
        return self.stable_share * steps, (self.stable_share + self.decay_share) * steps

    def _form(self, progress: float) -> float:
        decay: Decay = "cosine" if self.kind == "cosine" else self.decay
        if decay == "linear":
            return 1 + (self.floor_ratio - 1) * progress
        if decay == "exponential":
            return self.floor_ratio**progress
        return self.floor_ratio + (1 - self.floor_ratio) * (1 + math.cos(math.pi * progress)) / 2
