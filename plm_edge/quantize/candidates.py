"""Which formats each matrix of a file may take, and what a file of them would weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, GgufTensor, GgufValue
from plm_edge.quantize import plan as planning
from plm_edge.quantize.recipe import BASE_NAMES, Recipe
from plm_edge.quantize.tensor_types import TYPES

# From 2.6 to 16 bits, each with a kernel on every CPU. q4_0, q4_K, q6_K and q8_0 have the engine's
# own fast ones. The five-value types of 32 are left out: Q5_0 and Q5_1 lose to Q5_K at their size,
# Q4_1 to Q4_K. F16 is for the few matrices that do not bear what is fed to them in 8 bits.
DEFAULT_TYPES = ("q2_K", "q3_K", "q4_0", "q4_K", "q5_K", "q6_K", "q8_0", "f16")
# A matrix whose rows are too short for blocks of 256 may take these besides.
NARROW_TYPES = ("q4_0", "q5_0", "q8_0")
# Every row length of PLM is whole blocks of it: all matrices can be measured in it.
PROBE_TYPE = "q4_0"


@dataclass(frozen=True)
class Candidate:
    """A matrix and the formats it may take, smallest first."""

    tensor: GgufTensor
    types: tuple[str, ...]

    def size_bytes(self, type_name: str) -> int:
        """Bytes in the file, padding included."""
        return _padded(TYPES[type_name].size_bytes(self.tensor.shape))


def find(header: GgufHeader, types: Sequence[str] = DEFAULT_TYPES) -> tuple[Candidate, ...]:
    """Every matrix the quantizer would touch; `InputError` if one fits no format."""
    header.require_architecture()
    _require_known(types)
    found = []
    for tensor in header.tensors:
        if planning.is_matrix_weight(tensor):
            _require_plain(header, tensor)
            found.append(Candidate(tensor, _fitting(header, tensor, types)))
    return tuple(found)


def _require_plain(header: GgufHeader, tensor: GgufTensor) -> None:
    if tensor.type not in ("f16", "f32"):
        raise InputError(
            f"{header.path}: {tensor.name} is {tensor.type}; formats are searched for an f16 or "
            "f32 file",
            hint="plm-edge convert CHECKPOINT -o model.f16.gguf --type f16",
        )


def _require_known(types: Sequence[str]) -> None:
    for name in types:
        if name not in BASE_NAMES or name == "f32":
            known = ", ".join(name for name in BASE_NAMES if name != "f32")
            raise InputError(f"type {name!r}: expected one of {known}")
    if not any(TYPES[name].is_quantized for name in types):
        raise InputError(f"types {', '.join(types)}: expected one of fewer than 16 bits among them")


def _fitting(header: GgufHeader, tensor: GgufTensor, types: Sequence[str]) -> tuple[str, ...]:
    fits = [name for name in types if TYPES[name].fits(tensor.shape)]
    if len(fits) < len(types):
        fits += [name for name in NARROW_TYPES if TYPES[name].fits(tensor.shape)]
    if not any(TYPES[name].is_quantized for name in fits):
        raise InputError(
            f"{header.path}: rows of {tensor.name} are {tensor.shape[-1]} values, no whole blocks"
        )
    return tuple(sorted(set(fits), key=lambda name: (TYPES[name].bits_per_value, name)))


def fixed_bytes(
    header: GgufHeader, candidates: Sequence[Candidate], added: Mapping[str, GgufValue]
) -> int:
    """What a file weighs besides its matrices: metadata, names and norms, to the byte."""
    plan = planning.make(header, Recipe("", "q8_0"), added)
    matrices = {one.tensor.name for one in candidates}
    sizes = (_padded(entry.size_bytes) for entry in plan.tensors if entry.tensor.name in matrices)
    return plan.file_bytes - sum(sizes)


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // planning.ALIGNMENT) * planning.ALIGNMENT
