"""How fast a disk reads: measured for real here, and in the words of three kinds of dd."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.device import storage
from plm_edge.device.local import LocalTransport


@pytest.mark.parametrize(
    ("said", "speed"),
    [
        ("67108864 bytes (67 MB, 64 MiB) copied, 0.75 s, 89.5 MB/s", 67108864 / 0.75),  # coreutils
        ("67108864 bytes (64.0MB) copied, 1.500000 seconds, 42.7MB/s", 67108864 / 1.5),  # busybox
        ("67108864 bytes (64 M) copied, 0.500000 s, 128 M/s", 67108864 / 0.5),  # toybox
        ("dd: iflag=direct: unknown", None),
        ("67108864 bytes copied, 0 s", None),
    ],
)
def test_what_dd_says(said: str, speed: float | None) -> None:
    assert storage.parse_speed(said) == speed


def test_this_disk_is_measured_and_nothing_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "TEST_BYTES", 2 << 20)
    transport = LocalTransport("here")

    speed = storage.read_speed(transport)

    assert speed is None or speed > 1e6  # None where the file system knows no direct reads
    assert list(Path(transport.folder).iterdir()) == []


def test_a_slow_card_is_told() -> None:
    [slow], [fast], [unknown] = map(list, map(storage.check, (20e6, 800e6, None)))

    assert (slow.level, fast.level, unknown.level) == ("warning", "ok", "note")
    assert "1 GB loads in 50 s" in slow.message
