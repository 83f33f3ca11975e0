"""Reading what devices say about themselves, on what real ones said."""

from __future__ import annotations

import os

import pytest

from plm_edge.device import probe
from plm_edge.device.emulated import EmulatedTransport
from plm_edge.device.local import LocalTransport
from plm_edge.errors import DeviceError
from tests.device import recorded


def test_a_raspberry_pi_5_is_known() -> None:
    facts = probe.read(recorded.pi_5())

    assert facts.core_names == "4x Cortex-A76"
    assert facts.big_cores == (0, 1, 2, 3)
    assert {"asimddp", "asimdhp", "atomics"} <= facts.features
    assert facts.page_size_bytes == 16384
    assert facts.memory_bytes == 4146704 * 1024
    assert facts.available_bytes == 3571296 * 1024
    assert facts.free_disk_bytes == 51404072 * 1024
    assert facts.lockable_bytes == 506152 * 1024


def test_a_raspberry_pi_4_has_no_dotprod() -> None:
    facts = probe.read(recorded.pi_4())

    assert facts.core_names == "4x Cortex-A72"
    assert facts.features == {"fp", "asimd", "evtstrm", "crc32", "cpuid"}


def test_a_phones_little_cores_are_told_apart() -> None:
    facts = probe.read(recorded.phone())

    assert facts.big_cores == (2, 3, 4, 5, 6, 7)
    assert "i8mm" in facts.features
    assert facts.core_names == "2x Cortex-A520"


def test_without_capacities_the_clocks_tell() -> None:
    cpus = "cpu0 0 1800000 1800000 x\ncpu1 0 2400000 2400000 x\ncpu10 0 2300000 2300000 x"

    assert probe.read(recorded.phone(cpus=cpus)).big_cores == (1, 10)


def test_without_either_all_cores_count() -> None:
    facts = probe.read(recorded.pi_5(cpus="cpu0 0 0 0 -\ncpu1 0 0 0 -"))

    assert facts.big_cores == (0, 1, 2, 3)


def test_an_old_phones_first_line_is_no_core() -> None:
    facts = probe.read(recorded.phone(cpuinfo=recorded.SNAPDRAGON_845_CPUINFO))

    assert len(facts.cores) == 4
    assert "asimddp" not in facts.features
    assert "asimdhp" in facts.features


def test_features_are_what_every_core_has() -> None:
    mixed = recorded.PI_5_CPUINFO.split("\nHardware")[0] + "\n" + recorded.PI_4_CPUINFO

    assert "asimddp" not in probe.read(recorded.pi_5(cpuinfo=mixed)).features


@pytest.mark.parametrize(
    ("said", "is_emulated"),
    [("linux,dummy-virt ", True), ("ranchu", True), ("raspberrypi,5-model-b brcm,bcm2712 ", False)],
)
def test_virtual_machines_own_up(said: str, is_emulated: bool) -> None:
    assert probe.read(recorded.pi_5(platform=said)).is_emulated is is_emulated


@pytest.mark.parametrize(
    ("said", "size"),
    [("4096", 4096), ("KernelPageSize:       16 kB", 16384), ("", 0)],
)
def test_page_sizes(said: str, size: int) -> None:
    assert probe.read(recorded.pi_5(page_size=said)).page_size_bytes == size


def test_memory_that_may_be_locked_without_limit() -> None:
    assert probe.read(recorded.pi_5(locked="unlimited")).lockable_bytes > 1 << 60


@pytest.mark.parametrize("missing", ["cpuinfo", "meminfo", "architecture"])
def test_a_device_that_says_nothing_is_an_error(missing: str) -> None:
    with pytest.raises(DeviceError, match="neither its processor nor its memory"):
        probe.read(recorded.pi_5(**{missing: ""}))


def test_this_machine_is_probed_for_real() -> None:
    facts = probe.probe(LocalTransport("here"))

    assert facts.architecture == os.uname().machine
    assert facts.page_size_bytes == os.sysconf("SC_PAGESIZE")
    assert len(facts.cores) >= len(os.sched_getaffinity(0)) > 0
    assert 0 < facts.available_bytes <= facts.memory_bytes
    assert not facts.is_emulated


def test_an_emulated_device_has_the_emulators_processor() -> None:
    pretend = EmulatedTransport("pretend", "cortex-a72", frozenset({"fp", "asimd"}))

    facts = probe.probe(pretend)

    assert (facts.architecture, facts.is_emulated) == ("aarch64", True)
    assert facts.features == {"fp", "asimd"}
    assert facts.model == "emulated cortex-a72"
