"""How many threads to compute with: one for each big physical core this process may use.

More than that never helps: decoding waits for memory, and one slow core holds up all others.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

SYSFS = Path("/sys")

# A core below this share of the fastest one's capacity or clock is a small core.
BIG_CORE_SHARE = 0.8


def default_threads(sysfs: Path = SYSFS, allowed: Iterable[int] | None = None) -> int:
    """Big physical cores this process may run on, at most its share of time in a container."""
    cpus = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    speeds = {cpu: _speed(sysfs, cpu) for cpu in cpus}
    fastest = max(speeds.values(), default=0)
    big = [cpu for cpu in cpus if speeds[cpu] >= BIG_CORE_SHARE * fastest]
    cores = {_core(sysfs, cpu) for cpu in big}
    return max(1, min(len(cores), _quota(sysfs)))


def _speed(sysfs: Path, cpu: int) -> int:
    """The kernel's idea of a core's speed: capacity on ARM, else the highest clock, else 0."""
    folder = sysfs / f"devices/system/cpu/cpu{cpu}"
    return _number(folder / "cpu_capacity") or _number(folder / "cpufreq/cpuinfo_max_freq") or 0


def _core(sysfs: Path, cpu: int) -> str:
    """Names the physical core: the list of hardware threads that share it."""
    siblings = sysfs / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return siblings.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota(sysfs: Path) -> int:
    """Whole CPUs a container's limit (cgroup v2 `cpu.max`) leaves; many without a limit."""
    try:
        quota, period = (sysfs / "fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return 1 << 16


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
