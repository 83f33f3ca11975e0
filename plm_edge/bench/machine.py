"""This machine as a benchmark needs to know it, read from /proc and /sys where they have it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

# What decides which kernels run; the rest of /proc/cpuinfo's flags moves with the kernel.
_NOTABLE_FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("avx_vnni", "amx_int8", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)


@dataclass(frozen=True)
class Machine:
    """What a result depends on besides engine and file."""

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    memory_bytes: int
    governor: str | None
    kernel: str

    @property
    def key(self) -> str:
        """Names the hardware: rows are compared only where it is the same."""
        words = (self.cpu, self.architecture, *self.flags, str(self.cores))
        # What the firmware keeps for itself moves by megabytes between boots.
        memory = str(round(self.memory_bytes / 2**30))
        return hashlib.sha256("\n".join((*words, memory)).encode()).hexdigest()[:12]


def read(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Machine:
    """The machine this runs on."""
    info = _text(proc / "cpuinfo")
    flags = set((_field(info, "flags") or _field(info, "Features")).split())
    return Machine(
        cpu=_field(info, "model name") or _field(_text(proc / "cpuinfo"), "Model") or "unknown",
        architecture=platform.machine(),
        flags=notable(flags),
        cores=usable_cores(sys),
        memory_bytes=_memory_bytes(proc),
        governor=_text(sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        kernel=platform.release(),
    )


def notable(flags: Collection[str]) -> tuple[str, ...]:
    """The flags that decide which kernels run."""
    return tuple(flag for flag in _NOTABLE_FLAGS if flag in flags)


def load_average() -> float:
    """How many programs wanted a core in the last minute."""
    return os.getloadavg()[0]


def usable_cores(sys: Path = Path("/sys")) -> int:
    """Physical cores of the fastest kind this process may run on.

    More threads than that collapse decoding: hyper-threads and little cores make the others wait.
    """
    cores: dict[str, int] = {}
    for cpu in os.sched_getaffinity(0):
        folder = sys / f"devices/system/cpu/cpu{cpu}"
        siblings = _text(folder / "topology/thread_siblings_list").strip() or str(cpu)
        cores[siblings] = max(cores.get(siblings, 0), _capacity(folder))
    return sum(capacity == max(cores.values()) for capacity in cores.values())


def _capacity(folder: Path) -> int:
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        text = _text(folder / name).strip()
        if text.isdigit():
            return int(text)
    return 0


def _memory_bytes(proc: Path) -> int:
    words = _field(_text(proc / "meminfo"), "MemTotal").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else 0


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
