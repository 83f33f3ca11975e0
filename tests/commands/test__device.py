"""What commands for devices judge before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.commands import _device
from plm_edge.commands._device_options import Ask
from plm_edge.device import memory
from plm_edge.device import profile as profiles
from plm_edge.device.probe import Facts, read
from plm_edge.errors import SpaceError
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.shape import PlmShape
from tests.chat.scripted import write_scripted
from tests.device import recorded


@pytest.fixture
def header(tmp_path: Path) -> GgufHeader:
    """A file of 1.3 MB, all of it f32."""
    return read_header(write_scripted(tmp_path / "m.gguf"))


def with_room_for(header: GgufHeader, weights_bytes: int) -> Facts:
    """A Pi on which a file of so many bytes just fits."""
    known = replace(read(recorded.pi_5()), memory_bytes=512_000_000, available_bytes=0)
    load = memory.Load(PlmShape.from_metadata(header.metadata, "m"), header.size_bytes, "f16")
    taken = load.scratch_bytes(256) + 256 * load.token_bytes + memory.RESERVE_BYTES
    return replace(known, available_bytes=taken + weights_bytes)


def test_a_file_too_large_names_the_recipe_that_fits(header: GgufHeader) -> None:
    facts = with_room_for(header, header.size_bytes * 6 // 10)

    with pytest.raises(SpaceError) as caught:
        _device._planned("zero", header, facts, Ask())

    assert "recipe f16 makes it 0.7 MB" in str(caught.value.hint)
    assert "plm-edge quantize" in str(caught.value.hint)


def test_a_file_no_recipe_can_save(header: GgufHeader) -> None:
    with pytest.raises(SpaceError) as caught:
        _device._planned("zero", header, with_room_for(header, 10_000), Ask())

    assert "no recipe makes this model as small" in str(caught.value.hint)


def test_a_file_that_fits_is_planned(header: GgufHeader) -> None:
    plan = _device._planned("zero", header, with_room_for(header, header.size_bytes), Ask())

    assert plan.context_tokens >= 256


def test_threads_are_the_big_cores() -> None:
    phone, pi = read(recorded.phone()), read(recorded.pi_5())

    assert _device._threads(profiles.find("rpi5"), pi) == 4
    assert _device._threads(profiles.find("android-arm64"), replace(phone, cores=("x",) * 8)) == 6
    assert _device._threads(profiles.find("rpi5"), replace(pi, is_emulated=True)) == 1
