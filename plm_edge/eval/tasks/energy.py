"""Energy the machine used meanwhile, where it counts: RAPL's packages, else the battery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_JOULES_PER_WATT_HOUR = 3600.0


@dataclass(frozen=True)
class Energy:
    """Joules of the whole machine (battery) or its processors (RAPL), and which of the two."""

    joules: float
    source: str


class EnergyMeter:
    """Reads the counters once when made, and again when asked."""

    def __init__(self, sys: Path = Path("/sys")) -> None:
        self._sys = sys
        self._packages = self._read_packages()
        self._battery = self._read_battery()

    def used(self) -> Energy | None:
        """The energy since this was made; None where nothing counts it, or on the charger."""
        if self._packages:
            after = self._read_packages()
            spent = sum(self._since(path, before, after) for path, before in self._packages.items())
            return Energy(spent / 1e6, "rapl")
        now = self._read_battery()
        if self._battery is None or now is None or now >= self._battery:
            return None
        return Energy(self._battery - now, "battery")

    def _read_packages(self) -> dict[Path, int]:
        folders = self._sys.glob("class/powercap/intel-rapl:[0-9]*")
        found = {path: _number(path / "energy_uj") for path in folders if path.name.count(":") == 1}
        return {path: value for path, value in found.items() if value is not None}

    def _since(self, path: Path, before: int, after: dict[Path, int]) -> int:
        difference = after.get(path, before) - before
        # The counter starts over when it is full.
        return difference if difference >= 0 else difference + (self._range(path) or 0)

    def _range(self, path: Path) -> int | None:
        return _number(path / "max_energy_range_uj")

    def _read_battery(self) -> float | None:
        """What is left in all batteries, in joules."""
        left = [_battery_joules(path) for path in self._sys.glob("class/power_supply/*")]
        known = [joules for joules in left if joules is not None]
        return sum(known) if known else None


def _battery_joules(path: Path) -> float | None:
    energy = _number(path / "energy_now")  # µWh
    if energy is not None:
        return energy / 1e6 * _JOULES_PER_WATT_HOUR
    charge, voltage = _number(path / "charge_now"), _number(path / "voltage_now")  # µAh, µV
    if charge is None or voltage is None:
        return None
    return charge * voltage / 1e12 * _JOULES_PER_WATT_HOUR


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
