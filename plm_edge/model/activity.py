"""How many of a model's FFN activations are zero on a text, layer by layer; needs no torch.

Runs the float64 reference, so it takes any checkpoint or GGUF that the reference reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.console import Progress, no_progress
from plm_edge.errors import InputError
from plm_edge.model import dataset
from plm_edge.model.reference import Memory, Reference


@dataclass(frozen=True)
class LayerActivity:
    """`zero_share`: of all squared-ReLU outputs; `never_share`: neurons that no token woke."""

    zero_share: float
    never_share: float


@dataclass(frozen=True)
class Activity:
    """One entry a layer, measured on `tokens` tokens."""

    tokens: int
    layers: tuple[LayerActivity, ...]

    @property
    def zero_share(self) -> float:
        """The mean over layers."""
        return sum(layer.zero_share for layer in self.layers) / len(self.layers)


def read_windows(text: Path, tokenizer_folder: Path, length: int, most: int) -> list[list[int]]:
    """The first `most` tokens of a file, in pieces of at most `length`."""
    tokenizer = dataset.read_tokenizer(tokenizer_folder)
    ids = tokenizer.encode(dataset.read_text_file(text), add_special_tokens=False).ids[:most]
    if not ids:
        raise InputError(f"{text}: empty, expected text to run the model on")
    return [ids[at : at + length] for at in range(0, len(ids), length)]


def measure(
    reference: Reference, windows: Sequence[list[int]], progress: Progress = no_progress
) -> Activity:
    """Run the model over every window on its own."""
    layers = reference.shape.num_hidden_layers
    zeros = np.zeros(layers)
    woken = np.zeros((layers, reference.shape.intermediate_size), dtype=bool)

    def observe(layer: int, live: NDArray[np.float64]) -> None:
        zeros[layer] += float((live == 0).sum())
        woken[layer] |= (live != 0).any(axis=0)

    for number, window in enumerate(windows):
        progress(number, len(windows))
        reference.run(window, Memory(), observe)
    tokens = sum(map(len, windows))
    shares = zeros / (tokens * reference.shape.intermediate_size)
    found = (
        LayerActivity(float(z), float(1 - w.mean())) for z, w in zip(shares, woken, strict=True)
    )
    return Activity(tokens, tuple(found))
