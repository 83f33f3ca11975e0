"""Watches a running process: how much memory it took, split by kind, and how warm it got.

Mapped weights count as file-backed and can be dropped by the kernel at will; anonymous memory
(repacked weights, caches, buffers) cannot, and is what decides whether a small machine lives.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Often where memory is what is measured, seldom where looking would take time from the clock.
# A tiny model's run is over within 0.02 s.
CLOSE_POLL_SECONDS = 0.002
LOOSE_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Observed:
    """Peaks over a process's life, in bytes; None where the system does not tell."""

    peak_rss_bytes: int
    peak_anonymous_bytes: int
    peak_file_bytes: int
    temperature_celsius: float | None
    clock_megahertz: float | None


class Sampler:
    """Polls a process until it is told to stop; the peak of the whole comes from the kernel.

    VmHWM, not wait4's ru_maxrss: that one starts from the peak of the process that forked.
    """

    def __init__(
        self,
        pid: int,
        poll_seconds: float = CLOSE_POLL_SECONDS,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
    ) -> None:
        self._poll_seconds = poll_seconds
        self._status = proc / str(pid) / "status"
        self._sys = sys
        self._peaks: dict[str, int] = {}
        self._temperatures: list[float] = []
        self._clocks: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Sampler:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def observed(self) -> Observed:
        """What was seen so far."""
        peaks = self._peaks
        return Observed(
            peak_rss_bytes=peaks.get("VmHWM", 0),
            peak_anonymous_bytes=peaks.get("RssAnon", 0),
            peak_file_bytes=peaks.get("RssFile", 0),
            temperature_celsius=max(self._temperatures, default=None),
            clock_megahertz=min(self._clocks, default=None),
        )

    def _poll(self) -> None:
        felt = 0.0
        while not self._done.wait(self._poll_seconds):
            self._look()
            if time.monotonic() - felt > 2 * LOOSE_POLL_SECONDS:
                self._feel()
                felt = time.monotonic()

    def _look(self) -> None:
        for line in _text(self._status).splitlines():
            name, _, value = line.partition(":")
            if name in ("VmHWM", "RssAnon", "RssFile"):
                size_bytes = int(value.split()[0]) * 1024
                self._peaks[name] = max(size_bytes, self._peaks.get(name, 0))

    def _feel(self) -> None:
        """The hottest zone and the slowest core: both tell a throttled machine."""
        zones = (_number(path) for path in self._sys.glob("class/thermal/thermal_zone*/temp"))
        self._temperatures += [max(known) / 1000] if (known := [*filter(None, zones)]) else []
        cores = self._sys.glob("devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
        clocks = [*filter(None, map(_number, cores))]
        self._clocks += [min(clocks) / 1000] if clocks else []


def _number(path: Path) -> float | None:
    text = _text(path).strip()
    return float(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # the process has ended, or the system does not tell
