"""What quantizing a file will do: a type per tensor, and the output's size to the byte.

Pure: a header and a recipe in, a plan out. The size follows what the engine's quantizer writes:
the metadata as it is plus the two keys it sets, tensor names and shapes, everything padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plm_edge import gguf_header
from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader, GgufTensor, GgufValue
from plm_edge.quantize.recipe import BASE_NAMES, Recipe, layer_of
from plm_edge.quantize.tensor_types import fitting

ARCHITECTURE = "plm"
# The quantizer pads to this whatever the input says (GGUF_DEFAULT_ALIGNMENT).
ALIGNMENT = gguf_header.DEFAULT_ALIGNMENT

_SCALAR_BYTES = {
    **dict.fromkeys((gguf_header.U8, gguf_header.I8, gguf_header.BOOL), 1),
    **dict.fromkeys((gguf_header.U16, gguf_header.I16), 2),
    **dict.fromkeys((gguf_header.U32, gguf_header.I32, gguf_header.F32), 4),
    **dict.fromkeys((gguf_header.U64, gguf_header.I64, gguf_header.F64), 8),
}
_FIXED_HEADER_BYTES = 24  # magic, version, number of tensors, number of keys
_SET_KEYS = ("general.quantization_version", "general.file_type")
_DROPPED_KEYS = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True)
class TensorPlan:
    """One tensor: what it is, what it becomes, and what the recipe asked for."""

    tensor: GgufTensor
    type: str
    wanted_type: str
    size_bytes: int

    @property
    def is_matrix(self) -> bool:
        """Whether the quantizer touches this tensor at all."""
        return is_matrix_weight(self.tensor)

    @property
    def changes(self) -> bool:
        """Whether the tensor is rewritten, and not copied."""
        return self.type != self.tensor.type

    @property
    def falls_back(self) -> bool:
        """Whether its rows are not whole blocks of the type the recipe asked for."""
        return self.type != self.wanted_type

    @property
    def requantizes(self) -> bool:
        """Whether an already quantized tensor is quantized again."""
        return self.changes and _is_quantized(self.tensor.type)


@dataclass(frozen=True)
class Group:
    """The tensors of one role and one outcome, over all layers."""

    name: str
    source_type: str
    type: str
    tensors: int
    values: int
    size_bytes: int
    falls_back_from: str | None

    @property
    def bits_per_value(self) -> float:
        """Bits per weight in the output."""
        return 8 * self.size_bytes / self.values


@dataclass(frozen=True)
class Plan:
    """A whole file: its tensors and the exact size it will have."""

    base_name: str
    tensors: tuple[TensorPlan, ...]
    file_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight over all tensors, norms included."""
        values = sum(entry.tensor.values for entry in self.tensors)
        return 8 * sum(entry.size_bytes for entry in self.tensors) / values

    @property
    def requantized(self) -> tuple[TensorPlan, ...]:
        """The tensors that would be quantized a second time."""
        return tuple(entry for entry in self.tensors if entry.requantizes)

    def groups(self) -> tuple[Group, ...]:
        """The tensors by role and outcome, largest first."""
        found: dict[tuple[str, str, str, str], list[TensorPlan]] = {}
        for entry in self.tensors:
            key = (role(entry.tensor.name), entry.tensor.type, entry.type, entry.wanted_type)
            found.setdefault(key, []).append(entry)
        groups = [_group(key[0], entries) for key, entries in found.items()]
        return tuple(sorted(groups, key=lambda group: (-group.size_bytes, group.name)))


def role(name: str) -> str:
    """The tensor's name without its layer: `blk.3.ffn_up.weight` is `ffn_up.weight`."""
    return name if layer_of(name) is None else name.split(".", 2)[2]


def make(header: GgufHeader, recipe: Recipe, added: Mapping[str, GgufValue] | None = None) -> Plan:
    """The plan for a file; `InputError` if it is no PLM or the quantizer cannot write it.

    `added` is metadata the quantizer will write besides what it always does.
    """
    if header.architecture != ARCHITECTURE:
        raise InputError(
            f"{header.path}: architecture {header.architecture!r}, expected {ARCHITECTURE!r}"
        )
    if header.alignment != ALIGNMENT:
        raise InputError(f"{header.path}: general.alignment = {header.alignment}, expected 32")
    layers = {layer for tensor in header.tensors if (layer := layer_of(tensor.name)) is not None}
    layer_count = max(layers, default=-1) + 1
    tensors = tuple(_plan(tensor, recipe, layer_count) for tensor in header.tensors)
    return Plan(
        BASE_NAMES[recipe.type], tensors, _file_bytes({**header.values, **(added or {})}, tensors)
    )


def is_current(header: GgufHeader, recipe: Recipe) -> bool:
    """Whether a file already is what the recipe would make of it."""
    return not any(entry.changes for entry in make(header, recipe).tensors)


def _plan(tensor: GgufTensor, recipe: Recipe, layer_count: int) -> TensorPlan:
    if not is_matrix_weight(tensor):
        return TensorPlan(tensor, tensor.type, tensor.type, tensor.size_bytes)
    wanted = recipe.type_of(tensor.name, layer_count)
    chosen = fitting(wanted, tensor.shape)
    return TensorPlan(tensor, chosen.name, wanted.name, chosen.size_bytes(tensor.shape))


def is_matrix_weight(tensor: GgufTensor) -> bool:
    """Whether the quantizer touches this tensor at all: norms and vectors stay as they are."""
    name = tensor.name
    return (
        _dimensions(tensor.shape) > 1
        and name.endswith("weight")
        and not name.endswith("_norm.weight")
    )


def _dimensions(shape: tuple[int, ...]) -> int:
    """Dimensions as ggml counts them: outer ones of size 1 do not exist."""
    outer = 0
    while outer < len(shape) - 1 and shape[outer] == 1:
        outer += 1
    return len(shape) - outer


def _is_quantized(name: str) -> bool:
    return gguf_header.TENSOR_TYPES[gguf_header.TENSOR_TYPE_IDS[name]][1] > 1


def _group(name: str, entries: list[TensorPlan]) -> Group:
    first = entries[0]
    return Group(
        name=name,
        source_type=first.tensor.type,
        type=first.type,
        tensors=len(entries),
        values=sum(entry.tensor.values for entry in entries),
        size_bytes=sum(entry.size_bytes for entry in entries),
        falls_back_from=first.wanted_type if first.falls_back else None,
    )


def _file_bytes(values: Mapping[str, GgufValue], tensors: Iterable[TensorPlan]) -> int:
    kept = {key: value for key, value in values.items() if key not in _DROPPED_KEYS}
    kept |= {key: GgufValue(gguf_header.U32, 0) for key in _SET_KEYS}
    header = _FIXED_HEADER_BYTES + sum(_value_bytes(*item) for item in kept.items())
    data = 0
    for entry in tensors:
        name = entry.tensor.name.encode("utf-8", "surrogateescape")
        header += 8 + len(name) + 4 + 8 * _dimensions(entry.tensor.shape) + 4 + 8
        data += _padded(entry.size_bytes)
    return _padded(header) + data


def _value_bytes(key: str, value: GgufValue) -> int:
    size = _text_bytes(key) + 4
    if value.type == gguf_header.ARRAY:
        assert value.item_type is not None
        items: list[object] = value.value
        return size + 12 + sum(_item_bytes(value.item_type, item) for item in items)
    return size + _item_bytes(value.type, value.value)


def _item_bytes(kind: int, item: object) -> int:
    if kind == gguf_header.STRING:
        return _text_bytes(str(item))
    return _SCALAR_BYTES[kind]


def _text_bytes(text: str) -> int:
    # The quantizer copies texts as C strings, so one ends at its first NUL.
    return 8 + len(text.split("\0", 1)[0].encode("utf-8", "surrogateescape"))


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT
