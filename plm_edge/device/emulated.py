"""A device that is only pretended: its programs run here under qemu-user with its CPU model.

Everything but speed can be tried so. Only programs built for the device are emulated; `cat` and
its like are this machine's.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from plm_edge.device.local import LocalTransport
from plm_edge.shell import missing_tool

QEMU = "qemu-aarch64"
_MACHINE_OFFSET = 18
_AARCH64 = b"\xb7\x00"


class EmulatedTransport(LocalTransport):
    """This machine with another's CPU; `cpu` is a name qemu knows, `features` what it can do."""

    is_emulated = True

    def __init__(self, name: str, cpu: str, features: frozenset[str] = frozenset()) -> None:
        super().__init__(name)
        self.cpu = cpu
        self.features = features

    def program(self, argv: Sequence[str]) -> list[str]:
        if not is_aarch64(Path(argv[0])):
            return list(argv)
        if shutil.which(QEMU) is None:
            raise missing_tool(QEMU)
        return [QEMU, "-cpu", self.cpu, *argv]


def is_aarch64(path: Path) -> bool:
    """Whether `path` is a program for 64-bit ARM."""
    if not path.is_absolute():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_MACHINE_OFFSET + len(_AARCH64))
    except OSError:
        return False
    return head.startswith(b"\x7fELF\x02\x01") and head[_MACHINE_OFFSET:] == _AARCH64
