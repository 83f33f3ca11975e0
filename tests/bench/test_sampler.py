"""The sampler against a process whose memory is known, and against made-up sensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from plm_edge.bench.sampler import Sampler

GROW = "x = bytearray(64 << 20); x[::4096] = b'1' * len(x[::4096]); print(1, flush=True); input()"


def test_anonymous_memory_is_seen() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", GROW], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with Sampler(process.pid) as sampler:
        process.stdout.readline()
        sampler._look()
        process.communicate(b"\n")
    seen = sampler.observed()
    assert 64 << 20 < seen.peak_anonymous_bytes < 160 << 20
    assert seen.peak_rss_bytes >= seen.peak_anonymous_bytes
    assert seen.peak_file_bytes > 0


def test_a_process_that_is_gone_is_no_crash(tmp_path: Path) -> None:
    with Sampler(1, proc=tmp_path) as sampler:
        pass
    assert sampler.observed().peak_rss_bytes == 0


def test_the_hottest_zone_and_the_slowest_core(tmp_path: Path) -> None:
    for number, value in enumerate(["41000", "67500", "n/a"]):
        zone = tmp_path / f"class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(value + "\n")
    for number, value in enumerate(["2400000", "1500000"]):
        core = tmp_path / f"devices/system/cpu/cpu{number}/cpufreq"
        core.mkdir(parents=True)
        (core / "scaling_cur_freq").write_text(value + "\n")
    sampler = Sampler(1, proc=tmp_path, sys=tmp_path)
    assert sampler.observed().temperature_celsius is None
    sampler._feel()
    seen = sampler.observed()
    assert (seen.temperature_celsius, seen.clock_megahertz) == (67.5, 1500.0)
