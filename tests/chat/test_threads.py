"""Thread counts from the kernel's own files, on machines we do not have here."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.chat.threads import default_threads


def machine(root: Path, cores: list[dict[str, str]], cpu_max: str = "") -> Path:
    for cpu, files in enumerate(cores):
        for name, text in files.items():
            path = root / f"devices/system/cpu/cpu{cpu}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
    if cpu_max:
        (root / "fs/cgroup").mkdir(parents=True)
        (root / "fs/cgroup/cpu.max").write_text(cpu_max + "\n")
    return root


SIBLINGS = "topology/thread_siblings_list"
PHONE = [{"cpu_capacity": c} for c in ("250", "250", "250", "250", "870", "870", "870", "1024")]
LAPTOP = [{SIBLINGS: "0,2"}, {SIBLINGS: "1,3"}, {SIBLINGS: "0,2"}, {SIBLINGS: "1,3"}]
PI = [{"cpufreq/cpuinfo_max_freq": "2400000", SIBLINGS: str(cpu)} for cpu in range(4)]


@pytest.mark.parametrize(
    ("cores", "cpu_max", "expected"),
    [
        (PHONE, "", 4),
        (LAPTOP, "", 2),
        (PI, "", 4),
        (PI, "250000 100000", 2),
        (PI, "50000 100000", 1),
        (PI, "max 100000", 4),
        ([{}, {}], "", 2),
        ([{}], "nonsense", 1),
    ],
)
def test_one_thread_for_each_big_physical_core(
    tmp_path: Path, cores: list[dict[str, str]], cpu_max: str, expected: int
) -> None:
    root = machine(tmp_path, cores, cpu_max)
    assert default_threads(root, range(len(cores))) == expected


def test_only_cores_the_process_may_use_count(tmp_path: Path) -> None:
    assert default_threads(machine(tmp_path, PHONE), [0, 1, 2]) == 3


def test_this_machine_has_at_least_one() -> None:
    assert default_threads() >= 1
