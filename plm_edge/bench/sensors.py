"""What a far device feels while a program runs there: heat, clock, throttling, power, memory.

One shell script runs the program and looks at the device beside it; what it sees goes to stderr
between the program's own lines, so that every look is known to fall into a phase of the run.
Which commands tell temperature and power is the profile's matter; the rest is /proc and /sys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from plm_edge.device.profile import Power, PowerFormat, Profile, ThermalFormat

_BEGIN, _END = "plm-edge-look", "plm-edge-looked"
# $1 seconds between looks, $2 CPUs in use, $3 temperature, $4 throttling, $5 power, then the
# program; $c is its process. One write per look, lest the program's own lines fall into it. No look
# takes a second.
_LOOK = f"""
look() {{
  echo {_BEGIN}
  sed "s/^/uptime /" /proc/uptime
  sed "s/^/stat /" /proc/$c/stat
  grep -E "VmHWM|RssAnon|RssFile" /proc/$c/status
  for s in /proc/$c/task/*/status; do grep Cpus_allowed_list $s; done
  for k in $cpus; do
    sed "s/^/clock /" /sys/devices/system/cpu/cpu$k/cpufreq/scaling_cur_freq
  done
  for k in $cpus; do
    sed "s/^/governor /" /sys/devices/system/cpu/cpu$k/cpufreq/scaling_governor; break
  done
  [ -n "$t" ] && sh -c "$t" | sed "s/^/temperature /"
  [ -n "$w" ] && sh -c "$w" | sed "s/^/throttled /"
  [ -n "$p" ] && sh -c "$p" | sed "s/^/power /"
  echo {_END}
}} 2>/dev/null
i=$1 cpus=$2 t=$3 w=$4 p=$5; shift 5
"""
_ONCE = f'c=$1; shift; {_LOOK} text=$(look); echo "$text"'
# The looks end with the program, and a sleep that outlives them holds no stream open. Whenever a
# signal comes, $c and $! are what has been started by then: none, the program, or it and the looks;
# it waits, as a child loses a signal that comes before it has put off its parent's traps.
_BESIDE = (
    f"{_LOOK}"
    "c=; trap 'sleep $i; kill $c $! 2>/dev/null; wait $c $!; exit 143' HUP INT TERM\n"
    '"$@" & c=$!\n'
    '(while text=$(look); echo "$text" >&2; do sleep $i >/dev/null 2>&1; done) &\n'
    "wait $c; s=$?; kill $! 2>/dev/null; exit $s"
)
_BYTES = re.compile(r"^(VmHWM|RssAnon|RssFile):\s+(\d+) kB")
_PHASE = re.compile(r"^llama-bench: benchmark (\d+)/\d+: (.+)$")
_TICKS_PER_SECOND = 100  # USER_HZ, on every Linux a profile is for
_HAL = re.compile(r"mValue=([\d.]+), mType=(-?\d+)")
_PMIC = re.compile(r"(\S+)_([AV]) \w+\(\d+\)=([\d.]+)[AV]")
_DISCHARGING = ("discharging", "3")
_MILLIAMPERES_LIMIT = 20_000  # beyond 20 A it must be microamperes

# vcgencmd get_throttled: what holds now; the same from bit 16 on since boot.
UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 1, 2, 4, 8


@dataclass(frozen=True)
class Look:
    """One look at the device; None where it does not tell."""

    phase: str = ""
    temperature_celsius: float | None = None
    clock_megahertz: float | None = None
    governor: str | None = None
    is_throttled: bool = False
    has_under_voltage: bool = False
    watts: float | None = None
    uptime_seconds: float | None = None
    processor_seconds: float | None = None
    memory: dict[str, int] = field(default_factory=dict)
    allowed_cpus: frozenset[str] = frozenset()


def script(
    device: Profile,
    cpus: Sequence[int],
    seconds: float,
    argv: Sequence[str] = (),
    process: int | None = None,
) -> list[str]:
    """The words that run `argv` there with looks beside it; without it, that look once.

    The single look is at `process`, or at the shell that looks where there is none.
    """
    thermal, power = device.thermal, device.power
    settings = [f"{seconds:g}", " ".join(map(str, cpus))]
    commands = [thermal.temperature or "", thermal.throttled or "", power.read or ""]
    text, looked_at = (_BESIDE, []) if argv else (_ONCE, [str(process or "self")])
    return ["sh", "-c", text, "plm-edge", *looked_at, *settings, *commands, *argv]


def read(text: str, device: Profile) -> list[Look]:
    """The looks in a program's stderr, each with the phase llama-bench had told before it."""
    return [_look(phase, lines, device) for phase, lines in _blocks(text.splitlines())]


def said(text: str) -> str:
    """The program's own lines."""
    kept, is_inside = [], False
    for line in text.splitlines():
        is_inside = line == _BEGIN or (is_inside and line != _END)
        if not is_inside and line != _END:
            kept.append(line)
    return "\n".join(kept)


def _blocks(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    phase = ""
    block: list[str] | None = None
    for line in lines:
        if found := _PHASE.match(line):
            phase = f"{found[1]} {found[2]}"
        elif line == _BEGIN:
            block = []
        elif line == _END and block is not None:
            yield phase, block
            block = None
        elif block is not None:
            block.append(line)


def _look(phase: str, lines: Sequence[str], device: Profile) -> Look:
    told: dict[str, list[str]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        told.setdefault(word, []).append(rest)
    thermal = "\n".join(told.get("temperature", []))
    bits = _throttle_bits("\n".join(told.get("throttled", [])))
    clocks = [int(one) / 1000 for one in told.get("clock", []) if one.strip().isdigit()]
    celsius = _TEMPERATURES[device.thermal.format](thermal)
    return Look(
        phase=phase,
        temperature_celsius=celsius,
        clock_megahertz=min(clocks, default=None),
        governor=next(iter(told.get("governor", [])), None),
        is_throttled=bool(bits & (CAPPED | THROTTLED | SOFT_LIMIT))
        or _is_hot(celsius, device)
        or bool(re.search(r"Thermal Status: [1-9]", thermal)),
        has_under_voltage=bool(bits & UNDER_VOLTAGE),
        watts=watts("\n".join(told.get("power", [])), device.power),
        uptime_seconds=next((float(one.split()[0]) for one in told.get("uptime", [])), None),
        processor_seconds=next(map(_processor_seconds, told.get("stat", [])), None),
        memory={m[1]: int(m[2]) * 1024 for m in map(_BYTES.match, lines) if m},
        allowed_cpus=frozenset(
            line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:")
        ),
    )


def _processor_seconds(stat: str) -> float:
    """User and system time in a process's stat; its name, in brackets, may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _is_hot(celsius: float | None, device: Profile) -> bool:
    limit = device.thermal.limit_celsius
    return celsius is not None and limit is not None and celsius >= limit


def _throttle_bits(text: str) -> int:
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", text)
    return int(found[1], 16) if found else 0


def _millidegrees(text: str) -> float | None:
    values = [int(word) for word in text.split() if word.lstrip("-").isdigit()]
    return max((value / 1000 for value in values if value > 0), default=None)


def _thermalservice(text: str) -> float | None:
    """The hottest CPU sensor; the skin's where a phone tells no CPU's."""
    found = [(float(value), kind) for value, kind in _HAL.findall(text)]
    for kind in ("0", "3"):
        if values := [value for value, own in found if own == kind and value > 0]:
            return max(values)
    return None


_TEMPERATURES: dict[ThermalFormat, Callable[[str], float | None]] = {
    "millidegrees": _millidegrees,
    "thermalservice": _thermalservice,
}


def watts(text: str, power: Power) -> float | None:
    """What a power reading says; None if it says nothing that can be trusted."""
    return _WATTS[power.format](text)


def _pmic(text: str) -> float | None:
    rails: dict[str, dict[str, float]] = {}
    for rail, unit, value in _PMIC.findall(text):
        rails.setdefault(rail, {})[unit] = float(value)
    pairs = [rail for rail in rails.values() if len(rail) == 2]
    return sum(rail["A"] * rail["V"] for rail in pairs) if pairs else None


def _battery(text: str) -> float | None:
    """Only of a battery that is being drained: else the charger's current is in it, unknown."""
    keys = {
        key.strip().lower(): value.strip().lower()
        for key, colon, value in (line.partition(":") for line in text.splitlines())
        if colon
    }
    words = text.lower().split()
    state = keys.get("status") or (words[0] if words else "")
    numbers = [int(word) for word in words if re.fullmatch(r"-?\d+", word)]
    if state not in _DISCHARGING:
        return None
    if keys:  # dumpsys: millivolts, and a current on those systems that tell it
        volts, amperes = _whole(keys.get("voltage")), _whole(keys.get("current now"))
        if volts is None or amperes is None:
            return None
        unit = 1e-3 if abs(amperes) < _MILLIAMPERES_LIMIT else 1e-6
        return abs(volts * 1e-3 * amperes * unit)
    return abs(numbers[0] * numbers[1]) * 1e-12 if len(numbers) == 2 else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None


def _millivolts_milliamperes(text: str) -> float | None:
    numbers = [int(word) for word in text.split() if word.isdigit()]
    return numbers[0] * numbers[1] * 1e-6 if len(numbers) == 2 else None


_WATTS: dict[PowerFormat, Callable[[str], float | None]] = {
    "pmic": _pmic,
    "battery": _battery,
    "millivolts_milliamperes": _millivolts_milliamperes,
}
