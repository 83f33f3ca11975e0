"""How fast this machine can read memory: the ceiling every decoded token stands under.

Reads with libc's memchr, which on every libc worth the name is a vectorized load and compare:
it writes nothing, lets go of Python's lock, and needs no compiler. Other load can only make it look
slower, so the best value ever seen on a machine is kept, with its date.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from plm_edge import paths, schema
from plm_edge.bench.machine import Machine
from plm_edge.errors import ConfigError

# Far above any last-level cache, far below any memory that can hold a PLM.
BUFFER_BYTES = 512 << 20
_PASSES = 20
_FILL, _ABSENT = 1, 255
_LIMIT_BYTES = 1 << 16


@dataclass(frozen=True)
class Bandwidth:
    """The best read rate over thread counts, and when it was measured."""

    gigabytes_per_second: float
    threads: int
    measured_at: str


def cached(machine: Machine) -> Bandwidth | None:
    """What was measured on this machine before, if it was."""
    path = _path(machine)
    if not path.is_file():
        return None
    try:
        table = json.loads(paths.read_bytes(path, limit_bytes=_LIMIT_BYTES))
        return schema.build(table, Bandwidth, path)
    except (ValueError, AttributeError, TypeError, ConfigError):
        return None  # a damaged cache entry is measured again


def of(machine: Machine) -> Bandwidth:
    """The read bandwidth of this machine: measured now (1 s), or a better value from before."""
    measured, known = measure(machine.cores), cached(machine)
    if known is not None and known.gigabytes_per_second >= measured.gigabytes_per_second:
        return known
    paths.write_text_atomic(_path(machine), json.dumps(asdict(measured)) + "\n")
    return measured


def measure(cores: int, buffer_bytes: int = BUFFER_BYTES, passes: int = _PASSES) -> Bandwidth:
    """Read a large buffer on 1 to `cores` threads; the best pass of the best thread count."""
    with _Buffer(buffer_bytes) as buffer:
        rates = {
            threads: max(buffer.read(threads) for _ in range(passes))
            for threads in _thread_counts(cores)
        }
    best = max(rates, key=lambda threads: rates[threads])
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Bandwidth(round(rates[best], 2), best, now)


def _thread_counts(cores: int) -> list[int]:
    counts = {1, 2, 4, cores}
    return sorted(count for count in counts if count <= cores)


def _path(machine: Machine) -> Path:
    return paths.cache_dir() / "bandwidth" / f"{machine.key}.json"


class _Buffer:
    """Memory that is really there: written once, in huge pages where the system gives them."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._memory = mmap.mmap(-1, size_bytes)
        with suppress(OSError, AttributeError):
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._view = ctypes.c_char.from_buffer(self._memory)
        self._address = ctypes.addressof(self._view)
        ctypes.memset(self._address, _FILL, size_bytes)
        self._memchr = ctypes.CDLL(None).memchr
        self._memchr.restype = ctypes.c_void_p
        self._memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)

    def __enter__(self) -> _Buffer:
        return self

    def __exit__(self, *_: object) -> None:
        del self._view
        self._memory.close()

    def read(self, threads: int) -> float:
        """Read all of it once, split between threads; gigabytes per second."""
        share = self.size_bytes // threads
        workers = [
            threading.Thread(target=self._memchr, args=(self._address + i * share, _ABSENT, share))
            for i in range(threads)
        ]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return share * threads / (time.perf_counter() - started) / 1e9
