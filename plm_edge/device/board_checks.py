"""What can be wrong with a board or a phone: heat, supply, firmware, battery; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plm_edge.device.finding import Finding, ok
from plm_edge.device.probe import Facts, table
from plm_edge.device.profile import Profile
from plm_edge.device.snapshot import Snapshot

DEFAULT_LIMIT_CELSIUS = 80.0
_MARGIN_CELSIUS = 10.0
_LOW_BATTERY_PERCENT = 20

# vcgencmd get_throttled: bits 0-3 are now, 16-19 since boot (raspberrypi.com, "vcgencmd").
_UNDER_VOLTAGE, _CAPPED, _THROTTLED, _SOFT_LIMIT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_SINCE_BOOT = 16
_SUPPLY_FIX = "use the official power supply (27 W for a Pi 5) and a short, thick cable"
_COOLING_FIX = "fit a heat sink or the active cooler, and give it air"

# Firmware of this day and later sets the bank order by itself (rpi-eeprom's release notes).
_BANKLOW_DEFAULT_SINCE = (2024, 12, 7)


def thermal(answers: Snapshot, profile: Profile) -> Iterator[Finding]:
    """How hot it is already, before any work."""
    hottest = hottest_celsius(answers)
    limit = profile.thermal.limit_celsius or DEFAULT_LIMIT_CELSIUS
    if hottest is None:
        yield Finding("temperature", "note", "the device does not tell it")
    elif hottest > limit - _MARGIN_CELSIUS:
        text = f"{hottest:.0f} °C, and it slows down at {limit:.0f} °C"
        yield Finding("temperature", "warning", text, _COOLING_FIX)
    else:
        yield ok("temperature", f"{hottest:.0f} °C; it slows down at {limit:.0f} °C")
    status = re.search(r"^Thermal Status: (\d+)", answers["thermalservice"], re.MULTILINE)
    if status is not None and int(status[1]) > 0:
        text = f"Android is slowing the phone down already (thermal status {status[1]} of 6)"
        yield Finding("throttling", "warning", text, "let it cool; take it out of its case")


def hottest_celsius(answers: Snapshot) -> float | None:
    """The highest reading of the thermal zones, or of Android's thermal service."""
    zones = [line.split()[0] for line in answers["thermal"].splitlines() if line.strip()]
    values = [int(zone) / 1000 for zone in zones if zone.lstrip("-").isdigit()]
    service = answers["thermalservice"].partition("Current temperatures from HAL")[2]
    # Type 0 is the processor; what is cached above that line may be old.
    readings = re.findall(r"mValue=([\d.]+), mType=0,", service)
    values += [float(reading) for reading in readings]
    # Zones that are switched off read as 0 or far below it.
    return max((value for value in values if 0 < value < 150), default=None)


def supply(answers: Snapshot) -> Iterator[Finding]:
    """A Raspberry Pi's own record of too little voltage and of being slowed down."""
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", answers["throttled"])
    if found is None:
        return
    flags = int(found[1], 16)
    for bit, check, now, before, fix in (
        (_UNDER_VOLTAGE, "supply", "the voltage is too low now", "it was too low", _SUPPLY_FIX),
        (_THROTTLED, "throttling", "it is being slowed down now", "it was", _COOLING_FIX),
        (_SOFT_LIMIT, "soft limit", "it is at its soft limit now", "it was", _COOLING_FIX),
        (_CAPPED, "clock cap", "its clock is capped now", "it was", _SUPPLY_FIX),
    ):
        if flags & bit:
            yield Finding(check, "warning", now, fix)
        elif flags & bit << _SINCE_BOOT:
            yield Finding(check, "warning", f"{before} since it was switched on", fix)
    if flags == 0:
        yield ok("supply", "never too low, never slowed down since it was switched on")


def firmware(answers: Snapshot, facts: Facts) -> Iterator[Finding]:
    """How a Pi lays memory out over the chips' banks is worth a tenth of its bandwidth or more."""
    wanted = _wanted_bank_order(facts.model)
    if wanted is None or not (answers["bootloader"] or answers["bootloader_version"]):
        return
    config = dict(line.partition("=")[::2] for line in answers["bootloader"].splitlines())
    chosen = config.get("SDRAM_BANKLOW", "").strip()
    if chosen not in ("", "0", wanted):
        yield _banks(f"SDRAM_BANKLOW={chosen} is not the fast order", wanted)
    elif not chosen and not _has_new_firmware(answers["bootloader_version"]):
        yield _banks("this firmware does not choose the fast order of memory banks", wanted)
    else:
        yield ok("memory banks", f"SDRAM_BANKLOW={chosen or 'chosen by the firmware'}")
    if "numa=fake=" in answers["command_line"]:
        yield ok("NUMA emulation", "on, set by the firmware")
    elif "bcm2712" in answers["kernel"] or "2712" in answers["kernel"]:
        yield Finding(
            "NUMA emulation",
            "note",
            "off: memory is not interleaved over its halves",
            "sudo apt-get full-upgrade, then sudo rpi-eeprom-update -a, and reboot",
        )


def _wanted_bank_order(model: str) -> str | None:
    generation = re.search(r"Raspberry Pi (?:Compute Module )?(400|500|[45])", model)
    return None if generation is None else {"4": "3", "5": "1"}[generation[1][0]]


def _banks(message: str, wanted: str) -> Finding:
    fix = (
        "sudo apt-get full-upgrade; sudo rpi-eeprom-update -a; "
        f"sudo rpi-eeprom-config -e and put SDRAM_BANKLOW={wanted}; reboot"
    )
    return Finding("memory banks", "warning", message, fix)


def _has_new_firmware(version: str) -> bool:
    """Whether `vcgencmd bootloader_version` opens with a day since which the default is right."""
    found = re.match(r"(\d{4})/(\d\d)/(\d\d)", version)
    if found is None:  # older firmware names the month
        return False
    return tuple(int(part) for part in found.groups()) >= _BANKLOW_DEFAULT_SINCE


def battery(answers: Snapshot) -> Iterator[Finding]:
    """A phone low on battery, or told to save it, holds its clocks down."""
    values = table(answers["battery"])
    level = values.get("level", "")
    if level.isdigit():
        if int(level) < _LOW_BATTERY_PERCENT:
            yield Finding("battery", "warning", f"{level} %", "charge it first")
        else:
            yield ok("battery", f"{level} %")
    heat = values.get("temperature", "")
    if heat.isdigit() and int(heat) >= 420:
        text = f"{int(heat) / 10:.0f} °C: phones slow down to protect it"
        yield Finding("battery heat", "warning", text, "let it cool, and do not charge meanwhile")
    if answers["power_saver"].strip() == "1":
        fix = "adb shell settings put global low_power 0"
        yield Finding("power saver", "warning", "on: the clocks are held down", fix)
