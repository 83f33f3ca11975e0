"""What a device is, read from it: processor, memory, disk, and which of its cores are big."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from plm_edge.device import snapshot
from plm_edge.device.emulated import EmulatedTransport
from plm_edge.device.snapshot import Snapshot
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError

# A core below this share of the fastest one's capacity, or clock, is a small core.
BIG_CORE_SHARE = 0.8

# qemu's virtual board, and the Android emulator's two.
VIRTUAL_PLATFORMS = ("linux,dummy-virt", "ranchu", "goldfish")

# MIDR part numbers, as the kernel prints them under "CPU part", of Arm's own cores.
ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd4d": "Cortex-A715",
    "0xd4e": "Cortex-X3",
    "0xd80": "Cortex-A520",
    "0xd81": "Cortex-A720",
    "0xd82": "Cortex-X4",
}


@dataclass(frozen=True)
class Facts:
    """What matters about a device; 0 or an empty text where it does not say."""

    architecture: str
    system: str
    model: str
    cores: tuple[str, ...]
    big_cores: tuple[int, ...]
    features: frozenset[str]
    page_size_bytes: int
    memory_bytes: int
    available_bytes: int
    free_disk_bytes: int
    lockable_bytes: float
    is_emulated: bool = False

    @property
    def core_names(self) -> str:
        """Such as `4x Cortex-A76`."""
        kinds = dict.fromkeys(self.cores)
        return ", ".join(f"{self.cores.count(kind)}x {kind}" for kind in kinds)


def probe(transport: Transport) -> Facts:
    """Ask the device; one that turns out to be a virtual machine marks its wire as emulated."""
    facts = read(snapshot.take(transport, snapshot.PROBE))
    transport.is_emulated |= facts.is_emulated
    if isinstance(transport, EmulatedTransport):
        return pretended(facts, transport)
    return facts


def pretended(facts: Facts, transport: EmulatedTransport) -> Facts:
    """This machine's facts with the processor of the one that is emulated."""
    return Facts(
        **{
            **vars(facts),
            "architecture": "aarch64",
            "system": f"{facts.system}, qemu-user",
            "model": f"emulated {transport.cpu}",
            "cores": (transport.cpu,) * len(facts.cores),
            "features": transport.features,
            "is_emulated": True,
        }
    )


def read(answers: Snapshot) -> Facts:
    """The facts in a snapshot; `DeviceError` if even processor and memory are missing."""
    cpus = _cpuinfo_blocks(answers["cpuinfo"])
    memory = table(answers["meminfo"])
    if not cpus or "MemTotal" not in memory or not answers["architecture"]:
        raise DeviceError("the device tells neither its processor nor its memory")
    return Facts(
        architecture=answers["architecture"],
        system=answers["system"],
        model=answers["model"].strip(),
        cores=tuple(_core_name(block) for block in cpus),
        big_cores=_big_cores(answers["cpus"], len(cpus)),
        features=_common_features(cpus),
        page_size_bytes=_page_size(answers["page_size"]),
        memory_bytes=_kilobytes(memory["MemTotal"]),
        available_bytes=_kilobytes(memory.get("MemAvailable", memory.get("MemFree", "0"))),
        free_disk_bytes=_free_disk(answers["disk"]),
        lockable_bytes=_lockable(answers["locked"]),
        is_emulated=any(name in answers.get("platform", "") for name in VIRTUAL_PLATFORMS),
    )


def table(text: str) -> dict[str, str]:
    """Lines of `key: value` as a dictionary."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _cpuinfo_blocks(text: str) -> list[dict[str, str]]:
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():  # old kernels open with "Processor : AArch64"
            blocks.append({})
        if blocks and colon:
            # Hardware, Revision and the like follow the last block and belong to no core.
            blocks[-1].setdefault(key, value)
    return blocks


def _core_name(block: dict[str, str]) -> str:
    part = block.get("CPU part", "").lower()
    if block.get("CPU implementer") == "0x41" and part in ARM_CORES:
        return ARM_CORES[part]
    return block.get("model name") or " ".join(filter(None, ("core", part)))


def _common_features(cpus: list[dict[str, str]]) -> frozenset[str]:
    """What every core can do: a program may be moved to any of them."""
    sets = [frozenset((cpu.get("Features") or cpu.get("flags") or "").split()) for cpu in cpus]
    return frozenset.intersection(*[found for found in sets if found] or [frozenset()])


def _big_cores(text: str, count: int) -> tuple[int, ...]:
    """The numbers of the big cores; all of them if the device does not tell them apart."""
    speeds: dict[int, tuple[int, int]] = {}
    for line in text.splitlines():
        name, *numbers = line.split()
        if len(numbers) >= 2 and all(number.isdigit() for number in numbers[:2]):
            speeds[int(name.removeprefix("cpu"))] = (int(numbers[0]), int(numbers[1]))
    for which in (0, 1):  # the scheduler's capacity first, then the highest clock
        fastest = max((speed[which] for speed in speeds.values()), default=0)
        if fastest:
            share = BIG_CORE_SHARE * fastest
            return tuple(sorted(cpu for cpu, speed in speeds.items() if speed[which] >= share))
    return tuple(range(count))


def _page_size(text: str) -> int:
    if text.isdigit():
        return int(text)
    found = re.search(r"(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


def _kilobytes(text: str) -> int:
    number = text.split()[0] if text.split() else "0"
    return int(number) * 1024 if number.isdigit() else 0


def _free_disk(text: str) -> int:
    words = text.splitlines()[-1].split() if text else []
    return int(words[3]) * 1024 if len(words) > 3 and words[3].isdigit() else 0


def _lockable(text: str) -> float:
    if text.strip() == "unlimited":
        return math.inf
    return _kilobytes(text)
