"""What devices say of themselves, as they were seen to say it, and the script that asks them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.bench import sensors
from plm_edge.device import profile
from plm_edge.device.profile import Power, Profile, Thermal

# `vcgencmd pmic_read_adc` of a Pi 5: some of its rails; the last two tell no current.
PMIC = """\
 3V7_WL_SW_A current(0)=0.02342232A
   3V3_SYS_A current(1)=0.15419700A
  VDD_CORE_A current(7)=1.12518000A
 3V7_WL_SW_V volt(8)=3.71740800V
   3V3_SYS_V volt(9)=3.31745700V
  VDD_CORE_V volt(15)=0.89316150V
     EXT5V_V volt(24)=5.09066000V
      BATT_V volt(25)=nanV
"""
# `dumpsys thermalservice` of an Android television set; the cached values are old.
THERMAL = """\
Thermal Status: 0
Cached temperatures:
        Temperature{mValue=36.0, mType=1, mName=GPU, mStatus=0}
        Temperature{mValue=37.0, mType=0, mName=CPU0, mStatus=0}
Current temperatures from HAL:
        Temperature{mValue=66.5, mType=0, mName=CPU0, mStatus=0}
        Temperature{mValue=70.0, mType=1, mName=GPU, mStatus=0}
        Temperature{mValue=40.1, mType=3, mName=skin, mStatus=0}
"""
# `dumpsys battery` of a Samsung phone; AOSP's own has no "current now".
BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: false
  status: {status}
  level: 84
  voltage: 4063
  current now: {current}
  technology: Li-ion
"""
MILLI = Power("x", "millivolts_milliamperes")


def looks(text: str, device: Profile) -> list[sensors.Look]:
    return sensors.read(f"plm-edge-look\n{text}\nplm-edge-looked\n", device)


def prefixed(word: str, text: str) -> str:
    return "\n".join(f"{word} {line}" for line in text.splitlines())


@pytest.fixture
def pi() -> Profile:
    return profile.find("rpi5")


def test_a_pi_tells_watts_by_rail(pi: Profile) -> None:
    expected = 0.02342232 * 3.717408 + 0.154197 * 3.317457 + 1.12518 * 0.8931615
    assert sensors.watts(PMIC, pi.power) == pytest.approx(expected)
    assert looks(prefixed("power", PMIC), pi)[0].watts == pytest.approx(expected)
    assert sensors.watts('error=1 error_msg="Command not registered"', pi.power) is None


@pytest.mark.parametrize(
    ("text", "watts"),
    [
        (BATTERY.format(status=3, current=-345), 4.063 * 0.345),
        (BATTERY.format(status=3, current=-345678), 4.063 * 0.345678),
        (BATTERY.format(status=2, current=321), None),  # the charger's current is in it
        (BATTERY.replace("current now", "charge counter").format(status=3, current=1), None),
        ("Discharging\n3912000\n-812000\n", 3.912 * 0.812),
        ("Charging\n3912000\n812000\n", None),
        ("Full\n4400000\n0\n", None),
        ("Discharging\n3912000\n", None),
        ("", None),
    ],
)
def test_a_battery_is_believed_only_while_it_drains(text: str, watts: float | None) -> None:
    power = profile.find("android-arm64").power
    assert sensors.watts(text, power) == (None if watts is None else pytest.approx(watts))


def test_a_shunt_tells_millivolts_and_milliamperes() -> None:
    assert sensors.watts("4960\n1416\n", MILLI) == pytest.approx(4.96 * 1.416)
    assert sensors.watts("4960\n", MILLI) is None


def test_the_hottest_cpu_counts() -> None:
    phone = profile.find("android-arm64")
    assert looks(prefixed("temperature", THERMAL), phone)[0].temperature_celsius == 66.5
    skin = "\n".join(line for line in THERMAL.splitlines() if "mType=0" not in line)
    assert looks(prefixed("temperature", skin), phone)[0].temperature_celsius == 40.1
    hot = THERMAL.replace("Status: 0", "Status: 2", 1)
    assert looks(prefixed("temperature", hot), phone)[0].is_throttled
    assert not looks(prefixed("temperature", THERMAL), phone)[0].is_throttled
    assert looks("temperature HAL Ready: false", phone)[0].temperature_celsius is None


def test_zones_are_millidegrees_and_dead_ones_do_not_count(pi: Profile) -> None:
    assert looks("temperature 45123\ntemperature -40000", pi)[0].temperature_celsius == 45.123
    assert looks("temperature -256000", pi)[0].temperature_celsius is None
    assert looks("temperature 79999", pi)[0].is_throttled is False
    assert looks("temperature 80000", pi)[0].is_throttled is True


@pytest.mark.parametrize(
    ("word", "is_throttled", "has_under_voltage"),
    [
        ("0x0", False, False),
        ("0x50000", False, False),  # since boot, not now
        ("0x50005", True, True),
        ("0x1", False, True),
        ("0x2", True, False),
        ("0xe0008", True, False),
    ],
)
def test_vcgencmds_bits(
    pi: Profile, word: str, is_throttled: bool, has_under_voltage: bool
) -> None:
    look = looks(f"throttled throttled={word}", pi)[0]
    assert (look.is_throttled, look.has_under_voltage) == (is_throttled, has_under_voltage)


def test_memory_clocks_governor_and_masks(pi: Profile) -> None:
    look = looks(
        "VmHWM:\t  2048 kB\nRssAnon:\t 1024 kB\nRssFile:\t 512 kB\n"
        "Cpus_allowed_list:\t4\nCpus_allowed_list:\t5\n"
        "clock 2400000\nclock 1500000\ngovernor ondemand",
        pi,
    )[0]
    assert look.memory == {"VmHWM": 2 << 20, "RssAnon": 1 << 20, "RssFile": 512 << 10}
    assert (look.clock_megahertz, look.governor) == (1500.0, "ondemand")
    assert look.allowed_cpus == {"4", "5"}


def test_a_device_that_tells_nothing(pi: Profile) -> None:
    assert looks("", pi) == [sensors.Look()]
    assert sensors.read("just noise\n", pi) == []


SHELLS = [["dash"], ["bash"], ["busybox", "sh"], ["mksh"]]


def until_looked_at(looks: Path) -> str:
    """Shell lines that wait until a look has begun and ended; each adds a line to `looks`."""
    # One may be under way: the next is of now, and has ended when the one after it begins.
    count = f"$(cat '{looks}' 2>/dev/null | wc -l)"
    return f'n={count}; while [ "{count}" -lt $((n + 3)) ]; do sleep 0.02; done'


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_script_watches_a_program(pi: Profile, shell: list[str], tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    looks = tmp_path / "looks"
    told = Thermal(
        f"echo >> '{looks}'; echo 45000; echo 'it'\\''s'", throttled="echo throttled=0x4"
    )
    device = replace(pi, thermal=told, power=Power("echo 5000; echo 1000", MILLI.format))
    program = "echo out; echo 'llama-bench: benchmark 2/4: prompt run 1/1' >&2\n"
    program += f"{until_looked_at(looks)}\nexit 7"
    words = sensors.script(device, [0, 1], 0.1, ["sh", "-c", program])
    done = subprocess.run([*shell, *words[1:]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "out\n")
    found = sensors.read(done.stderr, device)
    last = found[-1]
    assert len(found) >= 2
    assert (last.phase, last.temperature_celsius, last.watts) == ("2 prompt run 1/1", 45.0, 5.0)
    assert last.is_throttled and any(look.memory.get("VmHWM") for look in found)
    assert sensors.said(done.stderr) == "llama-bench: benchmark 2/4: prompt run 1/1"


def test_the_script_looks_once(pi: Profile) -> None:
    device = replace(pi, thermal=Thermal("echo 45000"), power=Power())
    done = subprocess.run(
        sensors.script(device, [0], 1), capture_output=True, text=True, check=True
    )
    assert sensors.read(done.stdout, device)[0].temperature_celsius == 45.0


def test_ending_the_script_ends_the_program(pi: Profile) -> None:
    bare = replace(pi, thermal=Thermal(), power=Power())
    words = sensors.script(bare, [0], 0.1, ["sh", "-c", "echo $$; exec sleep 100"])
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().decode().strip()
        process.terminate()
        assert process.wait(60) == 143
    assert subprocess.run(["kill", "-0", pid], capture_output=True, check=False).returncode != 0
