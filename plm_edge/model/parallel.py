"""One process or many: the same training code under `torchrun` as without it.

DDP keeps the whole model in every process; FSDP2 (`fully_shard`) splits weights and moments, which
is what the 1.8 B shape needs. gloo on CPUs, nccl on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import distributed

Strategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class World:
    """This process's place among all of them."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


@contextmanager
def world() -> Iterator[World]:
    """The processes torchrun started, or just this one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    if size == 1:
        yield World(device="cuda" if cuda else "cpu")
        return
    local = int(os.environ["LOCAL_RANK"])
    device = f"cuda:{local}" if cuda else "cpu"
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()


def spread(model: Any, place: World, strategy: Strategy) -> Any:
    """The model, ready for gradients to be shared between the processes."""
    model = model.to(place.device)
    if place.size == 1:
        return model
    if strategy == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model)
    from torch.distributed.fsdp import fully_shard

    for layer in model.model.layers:
        fully_shard(layer)
    return fully_shard(model)


def total(value: float, place: World) -> float:
    """The sum of `value` over all processes."""
    if place.size == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=place.device)
    distributed.all_reduce(tensor)
    return float(tensor)
