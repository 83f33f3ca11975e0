"""Sizes as people write them, bits per weight, and what a device's memory leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.device.profile import Profile
from plm_edge.errors import InputError, UsageError
from plm_edge.gguf_header import read_header
from plm_edge.quantize import budget
from plm_edge.quantize import candidates as finding
from plm_edge.quantize import plan as planning
from plm_edge.quantize.recipe import Recipe
from tests.quantize.tiny import write_model


@pytest.mark.parametrize(
    ("text", "size"),
    [("1.0GB", 10**9), ("700MiB", 700 << 20), ("12345", 12345), (" 2 kb ", 2000), ("1b", None)],
)
def test_sizes(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(UsageError, match="--budget '1b': expected a size"):
            budget.from_size(text)
    else:
        assert budget.from_size(text).file_bytes == size


def test_bits_per_weight_are_those_of_the_table(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    found = finding.find(header)
    plan = planning.make(header, Recipe("", "q8_0"))
    fixed = finding.fixed_bytes(header, found, {})
    asked = budget.from_bits(plan.bits_per_weight, header, fixed).file_bytes
    assert asked == pytest.approx(plan.file_bytes, abs=200)


def test_a_device_leaves_what_its_memory_holds_beside_the_cache(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    profile = Profile("a board", memory_bytes=2 << 30)
    small, large = (budget.for_device("b", profile, header, ctx) for ctx in (1, 4096))
    # 3 layers, rows of 256 + 64 values of 2 bytes, and a column of the mask of 512 rows
    assert small.file_bytes - large.file_bytes == 3 * 320 * 2 * 4095 + 512 * 2 * 4095
    assert 1.3e9 < large.file_bytes < (2 << 30) * 0.75
    assert "75% of 2.15 GB" in large.reason
    with pytest.raises(InputError, match="nothing is left for the weights"):
        budget.for_device("b", profile, header, 1 << 23)
    with pytest.raises(InputError, match="device b: its profile does not say how much memory"):
        budget.for_device("b", Profile("a board"), header, 1)
