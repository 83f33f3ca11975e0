"""Which tokens a step trains on: a pure function of recipe, shards and step, so resuming is exact.

Every process draws the whole batch and keeps its rows; drawing is cheap, and all agree on how many
targets count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plm_edge.model.recipe import Part, TrainRecipe
from plm_edge.model.shards import Shard, open_shard


@dataclass(frozen=True)
class Batch:
    """Inputs and targets (n, length), which targets count, and how many do in all processes."""

    inputs: Tensor
    targets: Tensor
    counts: Tensor
    total_counted: int

    def micro_batches(self, size: int) -> Iterator[Batch]:
        """The rows in groups of `size` (all at once when 0)."""
        size = size or len(self.inputs)
        for at in range(0, len(self.inputs), size):
            rows = slice(at, at + size)
            yield Batch(
                self.inputs[rows], self.targets[rows], self.counts[rows], self.total_counted
            )


@dataclass(frozen=True)
class Batches:
    """Draws batches for a recipe from the shards of one folder."""

    recipe: TrainRecipe
    shards: dict[str, Shard]

    @classmethod
    def open(cls, recipe: TrainRecipe, folder: Path) -> Batches:
        """Map every shard the recipe names; `InputError` for one that is too small for a row."""
        names = {part.shard for phase in recipe.phases for part in phase.mixture}
        least = recipe.batch.length + 1
        return cls(recipe, {name: open_shard(folder, name, least) for name in sorted(names)})

    def at(self, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """The rows of `rank` in the batch of `step`."""
        generator = np.random.Generator(
            np.random.Philox(key=self.recipe.seed, counter=[0, 0, 0, step])
        )
        mixture = self.recipe.phase_at(step).mixture
        rows = [self._row(mixture, generator) for _ in range(self.recipe.batch.sequences)]
        total = sum(int(counts.sum()) for _, counts in rows)
        own = rows[rank::world_size]
        ids = torch.from_numpy(np.stack([row for row, _ in own]))
        counts = torch.from_numpy(np.stack([counts for _, counts in own]))
        return Batch(ids[:, :-1], ids[:, 1:], counts, max(total, 1))

    def _row(
        self, mixture: tuple[Part, ...], generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        weights = np.array([part.weight for part in mixture])
        part = mixture[generator.choice(len(mixture), p=weights / weights.sum())]
        shard = self.shards[part.shard]
        return shard.window(shard.place(generator), self.recipe.batch.length)


def fixed_windows(shard: Shard, length: int, most: int) -> Batch:
    """Up to `most` rows side by side from a shard's start: the same text at every validation."""
    count = max(1, min(most, (len(shard.ids) - 1) // length))
    rows = [shard.window(i * length, length) for i in range(count)]
    ids = torch.from_numpy(np.stack([row for row, _ in rows]))
    counts = torch.from_numpy(np.stack([counts for _, counts in rows]))
    return Batch(ids[:, :-1], ids[:, 1:], counts, max(int(counts.sum()), 1))
