"""What a device says about itself, asked once: a text per question, in one round trip.

Everything that judges a device (`probe`, `doctor`) reads from here and is thus a pure function of
recorded text. A question the device cannot answer is an empty text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from plm_edge.device.transport import Transport

Snapshot = Mapping[str, str]

_MARK = "@@plm-edge "

_PER_CPU = (
    "for d in /sys/devices/system/cpu/cpu[0-9]*; do "
    'echo "${d##*/} $(cat $d/cpu_capacity || echo 0) $(cat $d/cpufreq/cpuinfo_max_freq || echo 0) '
    '$(cat $d/cpufreq/scaling_max_freq || echo 0) $(cat $d/cpufreq/scaling_governor || echo -)"; '
    "done"
)
_THERMAL = (
    "for d in /sys/class/thermal/thermal_zone*; do "
    'echo "$(cat $d/temp || echo -) $(cat $d/type || echo -)"; done'
)
_MODEL = "tr -d '\\000' < /proc/device-tree/model || getprop ro.product.model"
# What the board calls itself to its drivers: the one thing every emulator owns up to.
_PLATFORM = "tr '\\000' ' ' < /proc/device-tree/compatible; getprop ro.hardware"
_SYSTEM = (
    'if [ -r /etc/os-release ]; then . /etc/os-release; echo "$PRETTY_NAME"; '
    'else echo "Android $(getprop ro.build.version.release)"; fi'
)

# $1 is our folder there.
PROBE: dict[str, str] = {
    "architecture": "uname -m",
    "system": _SYSTEM,
    "model": _MODEL,
    "platform": _PLATFORM,
    "cpuinfo": "cat /proc/cpuinfo",
    "meminfo": "cat /proc/meminfo",
    "page_size": "getconf PAGESIZE || grep -m1 KernelPageSize /proc/self/smaps",
    "cpus": _PER_CPU,
    "disk": 'd=$1; while [ ! -d "$d" ]; do d=${d%/*}; [ "$d" ] || d=/; done; df -Pk "$d"',
    "locked": "ulimit -l",
}
DOCTOR: dict[str, str] = {
    "kernel": "uname -r",
    "bits": "getconf LONG_BIT",
    "load": "cat /proc/loadavg",
    "swaps": "cat /proc/swaps",
    "pressure": "cat /proc/pressure/memory",
    "command_line": "cat /proc/cmdline",
    "mounts": "cat /proc/mounts",
    "thermal": _THERMAL,
    "throttled": "vcgencmd get_throttled",
    "bootloader": "vcgencmd bootloader_config",
    "bootloader_version": "vcgencmd bootloader_version",
    "battery": "dumpsys battery",
    "thermalservice": "dumpsys thermalservice",
    "power_saver": "settings get global low_power",
}


def take(transport: Transport, questions: Mapping[str, str]) -> Snapshot:
    """Ask `questions` (name → shell line) and return what each one printed."""
    script = "\n".join([*(_asked(name, line) for name, line in questions.items()), "true"])
    done = transport.run(["sh", "-c", script, "sh", transport.folder], timeout=60)
    return {**dict.fromkeys(questions, ""), **parse(done.stdout.splitlines())}


def parse(lines: Iterable[str]) -> dict[str, str]:
    """The answers in what the script of `take` prints."""
    answers: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if line.startswith(_MARK):
            current = answers.setdefault(line.removeprefix(_MARK), [])
        else:
            current.append(line)
    return {name: "\n".join(text).strip() for name, text in answers.items()}


def _asked(name: str, line: str) -> str:
    # A subshell of its own: one line's failure, or its variables, are nobody else's.
    return f"echo; echo '{_MARK}{name}'; ( {line} ) 2>/dev/null </dev/null"
