"""The roofline by hand: bytes over bandwidth, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench import estimate, roofline
from plm_edge.bench.estimate import Ceiling
from plm_edge.device import profile
from plm_edge.device.profile import Bandwidth, Profile
from plm_edge.gguf_header import read_header
from plm_edge.shape import PlmShape
from tests.quantize.tiny import write_model

BUS = Ceiling(10.0, "somebody", True)


def test_the_measured_rate_wins_over_the_theoretical_one() -> None:
    pi = profile.find("rpi5")
    found = estimate.ceiling(pi)
    assert found is not None and found.is_measured
    assert found.gigabytes_per_second == pi.bandwidth.measured_gigabytes_per_second
    theory = Bandwidth(17.1, "32-bit LPDDR4X-4267")
    assert estimate.ceiling(Profile("x", bandwidth=theory)) == Ceiling(
        17.1, "32-bit LPDDR4X-4267", False
    )
    assert estimate.ceiling(Profile("x")) is None
    one_core = estimate.ceiling(profile.find("orangepi5"))
    assert one_core is not None and not one_core.is_measured


def test_tokens_are_bandwidth_over_bytes(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf", dtype="q8_0"))
    shape = PlmShape.from_metadata(header.metadata, "m")
    weights = {t.name: t.size_bytes for t in header.tensors}
    down = sum(size for name, size in weights.items() if name.endswith("ffn_down.weight"))
    found = estimate.estimates(header, BUS, (0, 100), ("q8_0",), tokens=1)
    assert [(one.variant, one.depth) for one in found] == [
        *(("edge", 0), ("stock", 0), ("edge", 100), ("stock", 100))
    ]
    for one in found:
        is_edge = one.variant == "edge"
        row = shape.cache_bytes_per_token(one.cache_type, latent=is_edge)
        expected = sum(weights.values()) + row * (one.depth + 1)
        expected -= down * (1 - roofline.ASSUMED_LIVE_FRACTION) * is_edge
        assert one.bytes_per_token == pytest.approx(expected)
        assert one.tokens_per_second == pytest.approx(10e9 / expected)
        assert one.memory_bytes == header.size_bytes + (one.depth + 1) * row
