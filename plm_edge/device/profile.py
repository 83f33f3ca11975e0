"""A device profile: what a machine is, as far as building for it and predicting it needs to know.

Read from `devices/*.toml`; the file's stem is the device's name. What is not known publicly is
absent there and None here; nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from plm_edge import resources, schema

Architecture = Literal["native", "aarch64"]
ToolchainName = Literal["native", "zig", "gcc", "ndk"]
TransportKind = Literal["local", "ssh", "adb", "emulated"]
ThermalFormat = Literal["millidegrees", "thermalservice"]
PowerFormat = Literal["pmic", "battery", "millivolts_milliamperes"]

_MARCH = re.compile(r"armv[89](\.\d)?-a(\+[a-z0-9]+)*")
_ZIG_CPU = re.compile(r"[a-z0-9_]+([+-][a-z0-9_]+)*")
_FEATURE = re.compile(r"[a-z0-9_]+")


def _require(is_right: object, name: str, value: object) -> None:
    """`schema` turns a ValueError into an error that also names the file and the table."""
    if not is_right:
        raise ValueError(f"{name} = {value!r} is not possible here")


@dataclass(frozen=True)
class Cpu:
    """The cores, and what a binary for them may use."""

    name: str = ""
    # What /proc/cpuinfo must list under Features for a binary of this profile not to die.
    features: tuple[str, ...] = ()
    march: str | None = None
    zig_cpu: str | None = None
    qemu_cpu: str | None = None
    cores: int | None = None
    big_cores: int | None = None

    def __post_init__(self) -> None:
        _require(self.march is None or _MARCH.fullmatch(self.march), "march", self.march)
        _require(self.zig_cpu is None or _ZIG_CPU.fullmatch(self.zig_cpu), "zig_cpu", self.zig_cpu)
        for feature in self.features:
            _require(_FEATURE.fullmatch(feature), "features", feature)
        counts = [count for count in (self.big_cores, self.cores) if count is not None]
        _require(all(count > 0 for count in counts), "cores", counts)
        _require(counts == sorted(counts), "big_cores", self.big_cores)


@dataclass(frozen=True)
class Build:
    """How binaries for the device are made."""

    toolchain: ToolchainName = "native"


@dataclass(frozen=True)
class Bandwidth:
    """How fast the memory can be read, and who says so."""

    theoretical_gigabytes_per_second: float | None = None
    theoretical_source: str | None = None
    measured_gigabytes_per_second: float | None = None
    measured_source: str | None = None
    # False where one core was measured and several together are known to read more.
    measured_is_ceiling: bool = True

    def __post_init__(self) -> None:
        for kind in ("theoretical", "measured"):
            rate = getattr(self, f"{kind}_gigabytes_per_second")
            _require(rate is None or rate > 0, f"{kind}_gigabytes_per_second", rate)
            has_both = (rate is None) == (getattr(self, f"{kind}_source") is None)
            _require(has_both, f"{kind}_source", "a rate needs its source, and the other way")


@dataclass(frozen=True)
class Transport:
    """The wire to the device, and the folder there that is ours."""

    kind: TransportKind = "local"
    host: str | None = None
    user: str | None = None
    port: int | None = None
    serial: str | None = None
    folder: str | None = None
    # For ssh: a private key, and an ssh_config to use in place of the user's own.
    identity_file: str | None = None
    config_file: str | None = None

    def __post_init__(self) -> None:
        for name in ("host", "user", "serial"):
            value = getattr(self, name)
            # A leading dash would be read as an option, a blank as the next word.
            is_word = value is None or re.fullmatch(r"[^\s\x00-\x1f@-][^\s\x00-\x1f@]*", value)
            _require(is_word, name, value)
        _require(self.port is None or 0 < self.port < 65536, "port", self.port)
        is_line = self.folder is None or re.fullmatch(r"[^\x00-\x1f-][^\x00-\x1f]*", self.folder)
        _require(is_line, "folder", self.folder)


@dataclass(frozen=True)
class Thermal:
    """How to ask the device for its temperature; commands for the device's own shell.

    `millidegrees`: one number per line, the hottest counts. `thermalservice`: Android's dumpsys.
    """

    temperature: str | None = None
    format: ThermalFormat = "millidegrees"
    # vcgencmd's word of bits: under-voltage, capped clock, throttled; now and since boot.
    throttled: str | None = None
    limit_celsius: float | None = None


@dataclass(frozen=True)
class Power:
    """How to ask the device for the watts it takes.

    `pmic`: vcgencmd's currents and volts by rail. `battery`: sysfs' status, microvolts and
    microamperes by line, or Android's dumpsys. `millivolts_milliamperes`: one of each by line.
    """

    read: str | None = None
    format: PowerFormat = "battery"
    # What the reading covers and what it leaves out.
    covers: str | None = None


@dataclass(frozen=True)
class Profile:
    """One device; `architecture` "native" means whatever this machine is."""

    description: str
    architecture: Architecture = "native"
    # Of the usual model; the probe reads the real one.
    memory_bytes: int | None = None
    cpu: Cpu = Cpu()
    build: Build = Build()
    bandwidth: Bandwidth = Bandwidth()
    transport: Transport = Transport()
    thermal: Thermal = Thermal()
    power: Power = Power()

    def __post_init__(self) -> None:
        is_native = self.architecture == "native"
        _require(is_native == (self.build.toolchain == "native"), "architecture", self.architecture)
        if not is_native:
            _require(self.cpu.march and self.cpu.zig_cpu, "cpu.march and cpu.zig_cpu", "absent")
            _require(self.cpu.features, "cpu.features", "absent")
        _require(self.memory_bytes is None or self.memory_bytes > 0, "memory_bytes", 0)


def load(resource: resources.Resource) -> Profile:
    """The profile in a resource; `ConfigError` names file, table and key."""
    return schema.build(resources.read_table(resource), Profile, resource.path)


def find(name: str) -> Profile:
    """The profile named `name`."""
    return load(resources.find("devices", name))
