"""How many bytes a file may have: said outright, as bits per weight, or for a device's memory."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plm_edge.device.memory import Load
from plm_edge.device.profile import Profile
from plm_edge.errors import InputError, UsageError
from plm_edge.gguf_header import GgufHeader
from plm_edge.shape import PlmShape

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20}
_UNITS["GIB"] = 1 << 30
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]i?B)?", re.IGNORECASE)

# Of the memory a profile names, what is free when nobody has asked the device: a headless system
# and what else runs keep a quarter. `plm-edge doctor` asks.
USABLE_SHARE = 0.75


@dataclass(frozen=True)
class Budget:
    """Bytes a file may have, and how that came about."""

    file_bytes: int
    reason: str


def from_size(text: str) -> Budget:
    """`1.0GB`, `700MiB` or a number of bytes."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--budget {text!r}: expected a size, as in 1.0GB or 700MiB")
    size = int(float(found[1]) * _UNITS[(found[2] or "").upper()])
    return Budget(size, f"--budget {text}")


def from_bits(bits: float, header: GgufHeader, fixed_bytes: int) -> Budget:
    """So many bits per weight over all tensors, as `bits` of a table count them."""
    values = sum(tensor.values for tensor in header.tensors)
    norms = sum(
        tensor.size_bytes
        for tensor in header.tensors
        if tensor.type == "f32" and tensor.name.endswith("norm.weight")
    )
    return Budget(int(values * bits / 8) - norms + fixed_bytes, f"--bpw {bits:g}")


def for_device(name: str, profile: Profile, header: GgufHeader, context: int) -> Budget:
    """What a device's memory leaves for the weights beside the cache of so many tokens."""
    if profile.memory_bytes is None:
        raise InputError(
            f"device {name}: its profile does not say how much memory it has",
            hint=f"plm-edge device copy {name} MINE, add memory_bytes, then --for MINE",
        )
    shape = PlmShape.from_metadata(header.metadata, str(header.path))
    load = Load(shape, 0, "f16")
    cache, scratch = load.token_bytes * context, load.scratch_bytes(context)
    left = int(profile.memory_bytes * USABLE_SHARE) - cache - scratch
    reason = (
        f"{name}: {USABLE_SHARE:.0%} of {profile.memory_bytes / 1e9:.2f} GB, less "
        f"{cache / 1e9:.2f} GB of cache for {context} tokens and {scratch / 1e9:.2f} GB of scratch"
    )
    if left <= 0:
        raise InputError(f"{reason}: nothing is left for the weights", hint="a smaller --ctx")
    return Budget(left, reason)
