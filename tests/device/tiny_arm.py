"""The smallest programs for 64-bit ARM, written byte by byte: no compiler is needed for a test."""

from __future__ import annotations

import struct
from pathlib import Path

_BASE = 0x400000
_HEADERS = 64 + 56
_SDOT = 0x4E829420  # sdot v0.4s, v1.16b, v2.16b: only in CPUs with dotprod
_EXIT = (0xD2800BA8, 0xD4000001)  # mov x8, #93; svc #0


def write_program(path: Path, *, status: int = 0, uses_dotprod: bool = False) -> Path:
    """A static program that ends with `status`; first it uses dotprod, if asked to."""
    move = 0xD2800000 | status << 5  # mov x0, #status
    words = [*([_SDOT] if uses_dotprod else []), move, *_EXIT]
    code = struct.pack(f"<{len(words)}I", *words)
    size = _HEADERS + len(code)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = _BASE + _HEADERS
    header = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, entry, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    path.write_bytes(identity + header + segment + code)
    path.chmod(0o755)
    return path
