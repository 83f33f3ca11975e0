"""Energy counters, as Linux shows them under /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.eval.tasks.energy import Energy, EnergyMeter


def package(sys: Path, number: int, microjoules: int) -> Path:
    folder = sys / f"class/powercap/intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")
    return folder


def test_rapl_adds_up_packages_and_survives_an_overflow(tmp_path: Path) -> None:
    package(tmp_path, 0, 1_000_000)
    package(tmp_path, 1, 9_000_000)
    part = tmp_path / "class/powercap/intel-rapl:0:0"
    part.mkdir()
    (part / "energy_uj").write_text("5\n")
    meter = EnergyMeter(tmp_path)
    package(tmp_path, 0, 3_000_000)
    package(tmp_path, 1, 500_000)
    assert meter.used() == Energy(pytest.approx(2.0 + 1.5), "rapl")


def test_a_battery_that_empties_is_read(tmp_path: Path) -> None:
    battery = tmp_path / "class/power_supply/BAT0"
    battery.mkdir(parents=True)
    (battery / "charge_now").write_text("2000000\n")
    (battery / "voltage_now").write_text("4000000\n")
    meter = EnergyMeter(tmp_path)
    assert meter.used() is None  # on the charger, or too short
    (battery / "charge_now").write_text("1999000\n")
    assert meter.used() == Energy(pytest.approx(1e-3 * 4 * 3600), "battery")
    (battery / "charge_now").unlink()
    (battery / "energy_now").write_text("7990000\n")
    assert meter.used() == Energy(pytest.approx((8.0 - 7.99) * 3600), "battery")


def test_a_machine_without_counters_says_nothing(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).used() is None
