"""Findings any device may give, each with what mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from plm_edge.device import checks
from plm_edge.device.finding import Finding
from plm_edge.device.probe import read
from tests.device import recorded

PI = read(recorded.pi_5())


def only(findings: Iterable[Finding]) -> Finding:
    [finding] = findings
    return finding


def test_a_sparing_governor_is_told_with_its_command() -> None:
    finding = only(checks.governor(recorded.pi_5()))

    assert (finding.level, finding.message.split(":")[0]) == ("warning", "ondemand")
    assert "scaling_governor" in str(finding.fix)


def test_a_governor_of_performance_is_fine() -> None:
    cpus = recorded.CPUS_PI_5.replace("ondemand", "performance")

    assert only(checks.governor(recorded.pi_5(cpus=cpus))).level == "ok"


def test_a_capped_clock_is_told() -> None:
    cpus = "cpu0 0 2400000 1500000 performance"
    findings = list(checks.governor(recorded.pi_5(cpus=cpus)))

    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert findings[1].message == "cpu0 is held at 1.5 of 2.4 GHz"


def test_a_machine_without_clock_control_is_no_problem() -> None:
    assert only(checks.governor(recorded.pi_5(cpus="cpu0 0 0 0 -"))).level == "note"


@pytest.mark.parametrize(
    ("rows", "memory_bytes", "levels"),
    [
        ("", 4 << 30, ["ok"]),
        ("", 512 << 20, ["warning"]),
        ("/var/swap file 524272 0 -2", 4 << 30, ["warning"]),
        ("/dev/zram0 partition 524272 0 100", 4 << 30, ["ok"]),
        ("/dev/zram0 partition 2097152 1500000 100", 4 << 30, ["ok", "warning"]),
    ],
)
def test_swap(rows: str, memory_bytes: int, levels: list[str]) -> None:
    answers = recorded.pi_5(swaps=f"Filename Type Size Used Priority\n{rows}")
    facts = replace(PI, memory_bytes=memory_bytes)

    assert [finding.level for finding in checks.swap(answers, facts)] == levels


def test_memory_pressure() -> None:
    calm = "some avg10=0.00 avg60=0.12 avg300=0.05 total=123\nfull avg10=0.00 avg60=0.00"
    pressed = calm.replace("avg60=0.12", "avg60=23.40")

    assert only(checks.pressure(recorded.pi_5(pressure=calm), PI)).level == "ok"
    finding = only(checks.pressure(recorded.pi_5(pressure=pressed), PI))
    assert (finding.level, "23.40 %" in finding.message) == ("warning", True)


def test_pressure_that_is_switched_off_on_a_pi_has_a_fix() -> None:
    finding = only(checks.pressure(recorded.pi_5(), PI))

    assert finding.level == "note"
    assert "psi=1" in str(finding.fix)
    assert only(checks.pressure(recorded.phone(), read(recorded.phone()))).fix is None


def test_memory_and_disk() -> None:
    assert only(checks.memory(PI)).level == "ok"
    assert only(checks.memory(replace(PI, available_bytes=10**9))).level == "warning"
    assert only(checks.disk(PI, "/f")).level == "ok"
    assert only(checks.disk(replace(PI, free_disk_bytes=10**9), "/f")).level == "warning"


@pytest.mark.parametrize(
    ("size", "level"), [(4096, "ok"), (16384, "ok"), (1 << 20, "problem"), (0, "note")]
)
def test_page_sizes(size: int, level: str) -> None:
    assert only(checks.page_size(replace(PI, page_size_bytes=size))).level == level


@pytest.mark.parametrize(
    ("folder", "level", "words"),
    [
        ("/home/pi/.cache/plm-edge", "ok", "/ allows programs"),
        ("/sdcard/plm", "problem", "/sdcard is mounted noexec"),
        ("/mnt/my disk/x", "problem", "/mnt/my disk is read-only"),
        ("/sdcardigan/plm", "ok", "/ allows programs"),
    ],
)
def test_mounts(folder: str, level: str, words: str) -> None:
    mounts = (
        "/dev/root / ext4 rw,noatime 0 0\n"
        "/dev/fuse /sdcard fuse rw,nosuid,nodev,noexec,noatime 0 0\n"
        "/dev/sda1 /mnt/my\\040disk ext4 ro 0 0\n"
    )
    finding = only(checks.mount(recorded.pi_5(mounts=mounts), folder))

    assert (finding.level, words in finding.message) == (level, True)


def test_load() -> None:
    assert only(checks.load(recorded.pi_5(), PI)).level == "ok"
    assert only(checks.load(recorded.pi_5(load="3.10 1 1 2/99 7"), PI)).level == "warning"
    assert list(checks.load(recorded.pi_5(load=""), PI)) == []


def test_a_32_bit_system_is_worth_a_note() -> None:
    assert only(checks.bits(recorded.pi_5(bits="32"))).level == "note"
    assert list(checks.bits(recorded.pi_5())) == []
