"""Edge-LLM's layer-wise unified compression (arXiv 2406.15758), the baseline of the search.

Its rule: a layer's sensitivity is the squared error that compressing it alone leaves, brought to
0..1 by min and max over the layers. Layers above the mean keep more bits; sparsity is handed out in
proportion to 1 - sensitivity. One layer that stands far out squeezes all others to nearly 0, and
they become one: in the authors' own measurements layer 30 of 32 gets no sparsity and the rest
nearly the same. Mended, the scale is that of the logarithms, cut off three robust deviations from
their median, so that an outlier is only the most sensitive layer and the order of the others shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from plm_edge.errors import InputError
from plm_edge.quantize.candidates import Candidate
from plm_edge.quantize.recipe import layer_of
from plm_edge.quantize.tensor_types import TYPES

Scale = Literal["min-max", "robust"]

_CUT_OFF = 3.0
# Of a normal distribution, the median distance from the median is this share of the deviation.
_MEDIAN_SHARE = 0.6745
_MOST_SPARSITY = 0.95


def sensitivity(errors: Sequence[float], scale: Scale) -> list[float]:
    """Each layer's sensitivity from 0 to 1."""
    values = np.asarray(errors, dtype=np.float64)
    if scale == "robust":
        values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
        middle = np.median(values)
        deviation = np.median(np.abs(values - middle)) / _MEDIAN_SHARE
        values = values.clip(middle - _CUT_OFF * deviation, middle + _CUT_OFF * deviation)
    spread = values.max() - values.min()
    return [0.5] * len(values) if spread == 0 else list((values - values.min()) / spread)


def sparsity(errors: Sequence[float], target: float, scale: Scale) -> list[float]:
    """A share of weights to drop in each layer, `target` on average: u_i / sum(u) x target x L."""
    room = np.asarray([1 - value for value in sensitivity(errors, scale)])
    if not room.sum():
        return [target] * len(errors)
    found = room / room.sum() * target * len(errors)
    return list(found.clip(0, _MOST_SPARSITY))


def upgraded(errors: Sequence[float], scale: Scale) -> list[bool]:
    """Which layers keep more bits: those above the mean sensitivity."""
    found = sensitivity(errors, scale)
    mean = sum(found) / len(found)
    return [value > mean for value in found]


def types(
    candidates: Sequence[Candidate], errors: Mapping[int, float], budget: int, scale: Scale
) -> dict[str, str]:
    """The rule under a budget: the highest base format that fits, then the highest for the raised.

    `budget` is that of the matrices; `errors` by layer. What belongs to no layer (the embedding)
    gets the higher format.
    """
    layers = sorted(errors)
    raised = dict(zip(layers, upgraded([errors[one] for one in layers], scale), strict=True))
    every = {kind for one in candidates for kind in one.types if TYPES[kind].is_quantized}
    ladder = sorted(every, key=_bits, reverse=True)
    for low in ladder:
        for high in (kind for kind in ladder if _bits(kind) > _bits(low)):
            chosen = {
                one.tensor.name: _nearest(one, high if _is_raised(one, raised) else low)
                for one in candidates
            }
            if sum(one.size_bytes(chosen[one.tensor.name]) for one in candidates) <= budget:
                return chosen
    raise InputError(f"the rule of Edge-LLM makes no file within {budget:,} bytes of matrices")


def _is_raised(one: Candidate, raised: Mapping[int, bool]) -> bool:
    layer = layer_of(one.tensor.name)
    return True if layer is None else raised[layer]


def _bits(kind: str) -> float:
    return TYPES[kind].bits_per_value


def _nearest(one: Candidate, kind: str) -> str:
    """`kind`, or for a matrix that cannot take it the smallest format with as many bits."""
    fits = [name for name in one.types if _bits(name) >= _bits(kind)]
    return kind if kind in one.types else (fits[0] if fits else one.types[-1])
