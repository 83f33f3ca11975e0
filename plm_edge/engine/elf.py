"""What a program file says of itself: machine, static or not, alignment, instructions in it.

A program for the wrong core dies there with SIGILL, one with an interpreter with "not found", and
one aligned to 4 KB pages does not start on a kernel with 16 KB pages; all of that shows here.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge import paths
from plm_edge.errors import InputError

AARCH64 = 183
# Raspberry Pi OS on a Pi 5, and Android 15.
PAGE_BYTES = 16384
_LOAD, _INTERPRETER, _EXECUTABLE = 1, 3, 1
_CONTENT, _CODE = 1, 4
_LIMIT_BYTES = 1 << 30
_HEADER = struct.Struct("<HHIQQQIHHHHHH")
_SEGMENT, _SECTION = struct.Struct("<IIQQQQQQ"), struct.Struct("<IIQQQQIIQQ")

# (mask, value) of A64 encodings that only cores with the feature have, with the features' names in
# /proc/cpuinfo (Arm ARM, C4.1): SDOT and UDOT of vectors and by element; FMLA and FMUL of half
# floats, likewise; SMMLA.
INSTRUCTIONS: dict[str, tuple[tuple[int, int], ...]] = {
    "asimddp": ((0x9FE0FC00, 0x0E809400), (0x9FC0F400, 0x0F80E000)),
    "asimdhp": (
        *((0xBFE0FC00, 0x0E400C00), (0xBFE0FC00, 0x2E401C00)),
        *((0xBFC0F400, 0x0F001000), (0xBFC0F400, 0x0F009000)),
    ),
    "i8mm": ((0xFFE0FC00, 0x4E80A400),),
}


@dataclass(frozen=True)
class Elf:
    """A 64-bit little-endian ELF file, as far as running it elsewhere depends on it."""

    machine: int
    interpreter: str | None
    alignment_bytes: int
    features: tuple[str, ...]

    @property
    def is_static(self) -> bool:
        """Whether it starts without a loader, and so without any library of the device."""
        return self.interpreter is None


def read(path: Path) -> Elf:
    """The ELF file at `path`; `InputError` if it is none."""
    data = paths.read_bytes(path, limit_bytes=_LIMIT_BYTES)
    if data[:6] != b"\x7fELF\x02\x01":
        raise InputError(f"{path}: not a 64-bit little-endian ELF file")
    try:
        head = _HEADER.unpack_from(data, 16)
        segments = _table(data, _SEGMENT, head[4], head[8], head[9])
        sections = _table(data, _SECTION, head[5], head[10], head[11])
    except struct.error as error:
        raise InputError(f"{path}: cut short: {error}") from error
    loads = [segment for segment in segments if segment[0] == _LOAD]
    if not loads:
        raise InputError(f"{path}: nothing in it is loaded")
    code = [(s[4], s[5]) for s in sections if s[1] == _CONTENT and s[2] & _CODE]
    # Without sections the whole segment has to do, though linkers also put constants into it.
    code = code or [(s[2], s[5]) for s in loads if s[1] & _EXECUTABLE]
    features = _features([data[start : start + size] for start, size in code])
    return Elf(head[1], _interpreter(data, segments), _alignment(loads), features)


def _table(
    data: bytes, entry: struct.Struct, start: int, size: int, count: int
) -> list[tuple[int, ...]]:
    return [entry.unpack_from(data, start + i * size) for i in range(count)]


def _interpreter(data: bytes, segments: Sequence[tuple[int, ...]]) -> str | None:
    for kind, _, offset, _, _, size, *_ in segments:
        if kind == _INTERPRETER:
            return data[offset : offset + size].rstrip(b"\0").decode("utf-8", "replace")
    return None


def _alignment(loads: Sequence[tuple[int, ...]]) -> int:
    """The largest page size that every segment can be mapped with."""
    return min(_page(offset, address, align) for _, _, offset, address, _, _, _, align in loads)


def _page(offset: int, address: int, align: int) -> int:
    difference = offset ^ address
    return min(align, difference & -difference) if difference else align


def _features(code: Sequence[bytes]) -> tuple[str, ...]:
    words = array("I", b"".join(part[: len(part) // 4 * 4] for part in code))
    if sys.byteorder == "big":
        words.byteswap()
    return tuple(name for name in INSTRUCTIONS if _uses(words, INSTRUCTIONS[name]))


def _uses(words: array[int], patterns: Sequence[tuple[int, int]]) -> bool:
    return any(word & mask == value for mask, value in patterns for word in words)


def require_runs_on(path: Path, machine: int, features: Sequence[str]) -> Elf:
    """Raise `InputError` unless any device with these features and up to 16 KB pages can run it."""
    found = read(path)
    too_new = [name for name in found.features if name not in features]
    for is_wrong, reason in (
        (found.machine != machine, f"made for ELF machine {found.machine}, expected {machine}"),
        (not found.is_static, f"not static: wants {found.interpreter}"),
        (
            found.alignment_bytes < PAGE_BYTES,
            f"aligned to {found.alignment_bytes} bytes, pages may have {PAGE_BYTES}",
        ),
        (bool(too_new), f"uses {', '.join(too_new)}, which the device may lack"),
    ):
        if is_wrong:
            raise InputError(f"{path}: {reason}")
    return found
