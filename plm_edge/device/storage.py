"""How fast the far side's disk reads: a mapped model that does not stay in memory comes from it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plm_edge.device.finding import Finding, ok
from plm_edge.device.transport import Transport

TEST_BYTES = 64 << 20
# Below this a model of a gigabyte takes more than half a minute to load.
SLOW_BYTES_PER_SECOND = 40e6

# Written through to the disk, then read past the page cache; the file is gone whatever happens.
_SCRIPT = """
mkdir -p "$1" || exit 1
f=$1/.speed-$$
trap 'rm -f "$f"' EXIT
trap 'exit 1' TERM INT HUP
dd if=/dev/zero of="$f" bs=1048576 count="$2" conv=fsync 2>/dev/null || exit 1
dd if="$f" of=/dev/null bs=4194304 iflag=direct 2>&1
"""
_TOLD = re.compile(r"(\d+) bytes.* copied, ([\d.]+) ?s")


def read_speed(transport: Transport) -> float | None:
    """Bytes per second of a large read past the cache; None if the device cannot do that."""
    words = ["sh", "-c", _SCRIPT, "sh", transport.folder, str(TEST_BYTES >> 20)]
    done = transport.run(words, check=False, timeout=120)
    return parse_speed(done.stdout) if done.code == 0 else None


def parse_speed(text: str) -> float | None:
    """The speed in what dd says."""
    found = _TOLD.search(text)
    return int(found[1]) / float(found[2]) if found and float(found[2]) > 0 else None


def check(speed: float | None) -> Iterator[Finding]:
    """What that means for a mapped model."""
    if speed is None:
        yield Finding("storage", "note", "its speed could not be measured past the cache")
        return
    text = f"reads {speed / 1e6:.0f} MB/s: a model of 1 GB loads in {1e9 / speed:.0f} s"
    if speed < SLOW_BYTES_PER_SECOND:
        fix = "use an A2 card, a USB 3 or an NVMe disk; a model must fit in memory here"
        yield Finding("storage", "warning", text, fix)
    else:
        yield ok("storage", text)
