"""Zeros of the squared ReLU: a penalty that makes more of them, and cutting to see what is lost.

The penalty is L1 on relu(up(x)), mean over tokens and neurons, summed over layers. PLM's authors
report 90.9 % zeros and name no penalty; this one is ours, for models trained on a millionth of
PLM's tokens (compare ProSparse, arXiv 2402.13516). It reads the layers through hooks, so the model
knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ActivationPenalty:
    """Collects each layer's mean activation of one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._means: list[Tensor] = []
        for name, module in model.named_modules():
            if name.endswith("mlp.up_proj"):
                module.register_forward_hook(self._collect)

    def _collect(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if torch.is_grad_enabled():
            # Before squaring: there a small activation is pushed to zero as hard as a large one.
            self._means.append(F.relu(output).mean(dtype=torch.float32))

    def take(self) -> Tensor:
        """Σ over layers of the mean activation in the pass just done; the next starts afresh."""
        means, self._means = self._means, []
        return torch.stack(means).sum()


@contextmanager
def forced(model: nn.Module, share: float | None) -> Iterator[None]:
    """Within, every token keeps only its largest activations: `share` of them becomes zero.

    PLM's authors plot perplexity against it (their figure "PPL difference vs. sparsity rate").
    """
    handles: list[Any] = []
    if share is not None:
        for name, module in model.named_modules():
            if name.endswith("mlp.down_proj"):
                handles.append(module.register_forward_pre_hook(partial(_cut, share)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _cut(share: float, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    active = inputs[0]
    cut = min(int(share * active.shape[-1]), active.shape[-1] - 1)
    # the largest of those to be cut; ties with it are zeros nearly always
    bound = active.kthvalue(cut, dim=-1, keepdim=True).values if cut else active.new_zeros(())
    return (active.where(active > bound, active.new_zeros(())),)
