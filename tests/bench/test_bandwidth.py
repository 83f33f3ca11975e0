"""Read bandwidth: a plausible number, the best kept, a damaged cache measured again."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench import bandwidth, machine
from plm_edge.bench.bandwidth import Bandwidth

HERE = machine.read()


def cache_file(own_folders: Path) -> Path:
    return own_folders / "cache" / "bandwidth" / f"{HERE.key}.json"


def pretend(monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    found = Bandwidth(rate, 1, "2026-01-01T00:00:00+00:00")
    monkeypatch.setattr(bandwidth, "measure", lambda cores: found)


def test_a_small_buffer_reads_at_a_plausible_rate() -> None:
    found = bandwidth.measure(2, buffer_bytes=8 << 20, passes=25)
    assert 0.1 < found.gigabytes_per_second < 5000
    assert found.threads in (1, 2)


def test_every_byte_is_read() -> None:
    with bandwidth._Buffer(1 << 20) as buffer:
        last = buffer._address + (1 << 20) - 1
        assert buffer._memchr(last, bandwidth._FILL, 1) == last
        assert buffer._memchr(buffer._address, bandwidth._ABSENT, 1 << 20) is None


def test_the_best_value_is_kept(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rate, kept in ((20.0, 20.0), (10.0, 20.0), (30.0, 30.0)):
        pretend(monkeypatch, rate)
        assert bandwidth.of(HERE).gigabytes_per_second == kept
        known = bandwidth.cached(HERE)
        assert known is not None
        assert known.gigabytes_per_second == kept


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", '{"threads": "x"}', "\x00"])
def test_a_damaged_cache_is_measured_again(
    own_folders: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    cache_file(own_folders).parent.mkdir(parents=True)
    cache_file(own_folders).write_text(text)
    assert bandwidth.cached(HERE) is None
    pretend(monkeypatch, 12.0)
    assert bandwidth.of(HERE).gigabytes_per_second == 12.0
