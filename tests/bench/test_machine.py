"""Machines read from made-up /proc and /sys folders."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.bench import machine

CPUINFO = "processor : 0\nmodel name\t: Trial CPU @ 2 GHz\nflags\t\t: fpu avx2 fma f16c lm\n"
ARM = "processor : 0\nFeatures : fp asimd asimddp\nModel : Raspberry Pi 5\n"


def proc(folder: Path, cpuinfo: str = CPUINFO) -> Path:
    folder.mkdir(parents=True)
    (folder / "cpuinfo").write_text(cpuinfo)
    (folder / "meminfo").write_text("MemTotal:        8000000 kB\nMemFree: 1 kB\n")
    return folder


def cpu(sys: Path, number: int, siblings: str, capacity: int | None = None) -> None:
    folder = sys / f"devices/system/cpu/cpu{number}"
    (folder / "topology").mkdir(parents=True)
    (folder / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    if capacity is not None:
        (folder / "cpu_capacity").write_text(f"{capacity}\n")


def test_x86_and_arm(tmp_path: Path) -> None:
    x86 = machine.read(proc(tmp_path / "x86"), tmp_path)
    assert (x86.cpu, x86.flags) == ("Trial CPU @ 2 GHz", ("avx2", "fma", "f16c"))
    assert (x86.memory_bytes, x86.governor) == (8_192_000_000, None)
    pi = machine.read(proc(tmp_path / "arm", ARM), tmp_path)
    assert (pi.cpu, pi.flags) == ("Raspberry Pi 5", ("asimd", "asimddp"))


def test_nothing_readable_is_no_crash(tmp_path: Path) -> None:
    found = machine.read(tmp_path / "none", tmp_path / "none")
    assert (found.cpu, found.memory_bytes) == ("unknown", 0)


def test_this_machine_has_cores_and_memory() -> None:
    here = machine.read()
    assert 1 <= here.cores <= len(os.sched_getaffinity(0))
    assert here.memory_bytes > 1 << 28


def test_hyper_threads_and_little_cores_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        cpu(tmp_path / "smt", number, siblings)
    assert machine.usable_cores(tmp_path / "smt") == 2
    for number, capacity in enumerate([400, 400, 1024, 1024]):
        cpu(tmp_path / "big", number, str(number), capacity)
    assert machine.usable_cores(tmp_path / "big") == 2


def test_the_key_names_hardware_and_not_its_mood() -> None:
    here = machine.read()
    assert here.key == replace(here, kernel="9.9", governor="powersave").key
    assert here.key == replace(here, memory_bytes=here.memory_bytes - (1 << 20)).key
    assert here.key != replace(here, cores=here.cores + 1).key
