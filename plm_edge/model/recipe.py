"""Training recipes: `training/*.toml` as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from plm_edge.model.schedule import Schedule
from plm_edge.shape import PlmShape


@dataclass(frozen=True)
class Part:
    """A shard and how often it is drawn, relative to the others."""

    shard: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight = {self.weight}, expected above 0")


@dataclass(frozen=True)
class Phase:
    """A stretch of training on one mixture; `share` is its part of the recipe's steps."""

    name: str
    share: float
    mixture: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share = {self.share}, expected above 0, at most 1")
        if not self.mixture:
            raise ValueError(f"phase {self.name!r} has no mixture")


@dataclass(frozen=True)
class Batch:
    """Tokens of one optimizer step: sequences × length; `micro` of them are run at a time."""

    sequences: int
    length: int
    micro: int = 0

    def __post_init__(self) -> None:
        if min(self.sequences, self.length) < 1 or self.micro < 0:
            raise ValueError("sequences and length are at least 1")
        if self.micro and self.sequences % self.micro:
            raise ValueError(f"sequences = {self.sequences} is no multiple of micro = {self.micro}")

    @property
    def tokens(self) -> int:
        """Tokens per optimizer step."""
        return self.sequences * self.length


@dataclass(frozen=True)
class Optimizer:
    """AdamW's settings; PLM's own script has betas 0.9 / 0.999, decay 0.1, clip 1.0."""

    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Sparsity:
    """L1 on relu(up), ours: `penalty` grows from 0 at `start_share` of the steps to `full_share`.

    Late, because a squared ReLU that is pushed down before it is used never comes back: its
    gradient vanishes with its activation.
    """

    penalty: float = 0.0
    start_share: float = 0.0
    full_share: float = 0.0

    def __post_init__(self) -> None:
        if self.penalty < 0:
            raise ValueError(f"penalty = {self.penalty}, expected 0 or more")
        if not 0 <= self.start_share <= self.full_share <= 1:
            raise ValueError("expected 0 <= start_share <= full_share <= 1")

    def weight(self, step: int, steps: int) -> float:
        """The penalty's weight at a step."""
        start, full = self.start_share * steps, self.full_share * steps
        if step >= full:
            return self.penalty
        return self.penalty * max(0.0, step - start) / (full - start)


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides a run's result, and nothing else."""

    description: str
    stage: Literal["pretrain", "sft"]
    steps: int
    batch: Batch
    phases: tuple[Phase, ...]
    schedule: Schedule = field(default_factory=Schedule)
    optimizer: Optimizer = field(default_factory=Optimizer)
    shape: PlmShape = field(default_factory=PlmShape)
    seed: int = 0
    initializer_std: float = 0.02
    precision: Literal["f32", "bf16"] = "bf16"
    sparsity: Sparsity = field(default_factory=Sparsity)
    validation: str = "validation"  # the held-out shard
    validate_every: int = 100
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps = {self.steps}, expected at least 1")
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            raise ValueError("the phases' shares do not add up to 1")
        if self.batch.length > self.shape.max_position_embeddings:
            raise ValueError(
                f"batch.length = {self.batch.length} is above the shape's "
                f"{self.shape.max_position_embeddings} positions"
            )

    def phase_at(self, step: int) -> Phase:
        """The phase that step belongs to."""
        passed = 0.0
        for phase in self.phases:
            passed += phase.share
            if step < round(passed * self.steps):
                return phase
        return self.phases[-1]


@dataclass(frozen=True)
class PreferenceSettings:
    """β of DPO, the refinement's share a, and the least reward a pair must differ by."""

    beta: float = 0.1
    refine_share: float = 0.5
    margin: float = 0.2


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: at most `most` tokens; greedy at temperature 0."""

    most: int = 48
    temperature: float = 1.0


@dataclass(frozen=True)
class Online:
    """One online round: how many questions, draws a question, and how they are drawn."""

    questions: int = 32
    draws: int = 3
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class PreferenceRecipe:
    """Everything that decides a preference run's result, beside the model it starts from."""

    description: str
    stage: Literal["preference"]
    rate: float = 5e-7
    pairs_per_step: int = 4
    offline_pairs: int = 200
    online_rounds: int = 1
    seed: int = 0
    clip: float = 1.0
    save_every: int = 25
    loss: PreferenceSettings = field(default_factory=PreferenceSettings)
    online: Online = field(default_factory=Online)

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate = {self.rate}, expected a positive rate")
        if self.pairs_per_step < 1 or self.offline_pairs < 0 or self.online_rounds < 0:
            raise ValueError("pairs_per_step is at least 1, offline_pairs and online_rounds 0")


def differences(mine: dict[str, Any], theirs: dict[str, Any], where: str = "") -> list[str]:
    """One line per value that two recipes (as tables) do not share."""
    lines = []
    for key in sorted(mine.keys() | theirs.keys()):
        left, right = mine.get(key), theirs.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            lines += differences(left, right, f"{where}{key}.")
        elif left != right:
            lines.append(f"{where}{key}: {right!r} → {left!r}")
    return lines
