"""Heat, supply, firmware and battery, on what boards and phones really said."""

from __future__ import annotations

import pytest

from plm_edge.device import board_checks
from plm_edge.device import profile as profiles
from plm_edge.device.probe import read
from tests.device import recorded

PI = profiles.find("rpi5")
PHONE = profiles.find("snapdragon-8-gen-3")


def test_a_cool_pi() -> None:
    [finding] = board_checks.thermal(recorded.pi_5(), PI)

    assert (finding.level, finding.message) == ("ok", "48 °C; it slows down at 80 °C")


def test_a_hot_pi() -> None:
    [finding] = board_checks.thermal(recorded.pi_5(thermal="-40000 x\n81600 cpu-thermal"), PI)

    assert finding.level == "warning"
    assert "cooler" in str(finding.fix)


def test_a_phones_present_temperature_counts_and_not_the_cached_one() -> None:
    assert board_checks.hottest_celsius(recorded.phone()) == 66.5


def test_a_phone_that_slows_down_is_told() -> None:
    said = recorded.THERMALSERVICE.replace("Thermal Status: 0", "Thermal Status: 3")
    findings = list(board_checks.thermal(recorded.phone(thermalservice=said), PHONE))

    assert "thermal status 3 of 6" in findings[-1].message


def test_no_sensor_is_no_problem() -> None:
    [finding] = board_checks.thermal(recorded.pi_5(thermal="- -"), PI)

    assert finding.level == "note"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("throttled=0x0", [("supply", "never too low")]),
        (
            recorded.THROTTLED_BEFORE,
            [("supply", "since it was switched on"), ("throttling", "since it was switched on")],
        ),
        (
            recorded.THROTTLED_NOW,
            [("supply", "too low now"), ("throttling", "slowed down now")],
        ),
        (recorded.SOFT_LIMIT_NOW, [("soft limit", "now")]),
        ("", []),
        ("VCHI initialization failed", []),
    ],
)
def test_the_supplys_history(said: str, expected: list[tuple[str, str]]) -> None:
    findings = list(board_checks.supply(recorded.pi_5(throttled=said)))

    assert [finding.check for finding in findings] == [check for check, _ in expected]
    for finding, (_, words) in zip(findings, expected, strict=True):
        assert words in finding.message


@pytest.mark.parametrize(
    ("config", "version", "level"),
    [
        ("BOOT_ORDER=0xf416", "2025/02/12 10:51:52", "ok"),
        ("BOOT_ORDER=0xf416", recorded.OLD_FIRMWARE, "warning"),
        ("BOOT_ORDER=0xf416", "Sep  3 2020 13:11:43", "warning"),
        ("SDRAM_BANKLOW=1", recorded.OLD_FIRMWARE, "ok"),
        ("SDRAM_BANKLOW=0", "2025/02/12 10:51:52", "ok"),
        ("SDRAM_BANKLOW=3", "2025/02/12 10:51:52", "warning"),
    ],
)
def test_memory_banks_of_a_pi_5(config: str, version: str, level: str) -> None:
    answers = recorded.pi_5(bootloader=config, bootloader_version=version)
    finding = next(iter(board_checks.firmware(answers, read(answers))))

    assert (finding.check, finding.level) == ("memory banks", level)
    assert level == "ok" or "SDRAM_BANKLOW=1" in str(finding.fix)


def test_a_pi_4_wants_another_order() -> None:
    answers = recorded.pi_4(bootloader="SDRAM_BANKLOW=1", bootloader_version="2025/02/12 1")
    finding = next(iter(board_checks.firmware(answers, read(answers))))

    assert "SDRAM_BANKLOW=3" in str(finding.fix)


def test_numa_emulation_is_told() -> None:
    answers = recorded.pi_5(
        bootloader="SDRAM_BANKLOW=1", command_line="coherent_pool=1M numa=fake=8 psi=1"
    )
    on = list(board_checks.firmware(answers, read(answers)))[-1]
    off = list(board_checks.firmware({**answers, "command_line": ""}, read(answers)))[-1]

    assert (on.check, on.level, off.check, off.level) == (
        "NUMA emulation",
        "ok",
        "NUMA emulation",
        "note",
    )


def test_a_phone_has_no_such_firmware() -> None:
    assert list(board_checks.firmware(recorded.phone(), read(recorded.phone()))) == []


def test_batteries() -> None:
    [fine] = board_checks.battery(recorded.phone())
    low = recorded.BATTERY.replace("level: 84", "level: 7").replace(": 326", ": 451")
    findings = list(board_checks.battery(recorded.phone(battery=low, power_saver="1")))

    assert (fine.level, fine.message) == ("ok", "84 %")
    assert [finding.check for finding in findings] == ["battery", "battery heat", "power saver"]
    assert list(board_checks.battery(recorded.pi_5())) == []
