"""What a device could do at most, from its memory bus alone: for when there is none to measure.

The roofline of decoding: tokens per second ≤ bytes the bus reads per second ÷ bytes read per token.
An estimate, never a result; it is not stored, and every number it rests on is told with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from plm_edge.bench import roofline
from plm_edge.device.profile import Profile
from plm_edge.gguf_header import GgufHeader

Variant = Literal["edge", "stock"]


@dataclass(frozen=True)
class Ceiling:
    """The read bandwidth an estimate stands on, and who says so."""

    gigabytes_per_second: float
    source: str
    is_measured: bool


@dataclass(frozen=True)
class Estimate:
    """One engine at one depth: an upper bound, and the memory it cannot do without."""

    variant: Variant
    depth: int
    cache_type: str
    bytes_per_token: float
    tokens_per_second: float
    memory_bytes: int


def ceiling(device: Profile) -> Ceiling | None:
    """The measured bandwidth of a profile, else the theoretical one; None if it knows neither.

    What one core was measured to read is no ceiling for several, unless the profile knows better.
    """
    known = device.bandwidth
    if known.measured_gigabytes_per_second is not None and known.measured_is_ceiling:
        return Ceiling(known.measured_gigabytes_per_second, known.measured_source or "", True)
    if known.theoretical_gigabytes_per_second is not None:
        rate, source = known.theoretical_gigabytes_per_second, known.theoretical_source
        return Ceiling(rate, source or "", False)
    return None


def estimates(
    header: GgufHeader,
    bus: Ceiling,
    depths: Sequence[int],
    cache_types: Sequence[str],
    tokens: int,
) -> list[Estimate]:
    """Both engines on the same weights: ours skips dead neurons and keeps the latent cache.

    Stock's lines are what it would read of these tensors with its f16 cache.
    """
    found = []
    for depth in depths:
        for cache_type in cache_types:
            found.append(_estimate("edge", header, bus, depth, cache_type, tokens))
        found.append(_estimate("stock", header, bus, depth, "f16", tokens))
    return found


def _estimate(
    variant: Variant, header: GgufHeader, bus: Ceiling, depth: int, cache_type: str, tokens: int
) -> Estimate:
    reads = roofline.reads(
        header,
        latent=variant == "edge",
        cache_type=cache_type,
        live_fraction=roofline.ASSUMED_LIVE_FRACTION if variant == "edge" else None,
    )
    size_bytes = reads.generation_bytes(depth, tokens)
    return Estimate(
        variant=variant,
        depth=depth,
        cache_type=cache_type,
        bytes_per_token=size_bytes,
        tokens_per_second=1e9 * bus.gigabytes_per_second / size_bytes,
        memory_bytes=header.size_bytes + (depth + tokens) * reads.cache_bytes_per_token,
    )
