"""A recipe: which tensor gets which type, and why. Read from `quant/*.toml`, first match wins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from plm_edge import resources, schema
from plm_edge.quantize.tensor_types import TYPES, TensorType

# What llama-quantize calls each type when it is a file's main one (it becomes general.file_type).
BASE_NAMES = {
    "f32": "F32",
    "f16": "F16",
    "bf16": "BF16",
    "q8_0": "Q8_0",
    "q4_0": "Q4_0",
    "q4_1": "Q4_1",
    "q5_0": "Q5_0",
    "q5_1": "Q5_1",
    "q4_K": "Q4_K_M",
    "q5_K": "Q5_K_M",
    "q6_K": "Q6_K",
    "q3_K": "Q3_K_M",
    "q2_K": "Q2_K",
    "iq4_nl": "IQ4_NL",
    "iq4_xs": "IQ4_XS",
}

_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Rule:
    """A type for the tensors whose names match one of the globs, in some layers or all.

    `layers` counts from the end where negative; a layer the model does not have matches nothing.
    """

    tensors: tuple[str, ...]
    type: str
    reason: str
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.tensors:
            raise ValueError("tensors is empty, expected at least one name or glob")
        if self.type not in TYPES:
            raise ValueError(f"type = {self.type!r}, expected one of {', '.join(TYPES)}")
        if not self.reason.strip():
            raise ValueError("reason is empty, expected a sentence")

    def matches(self, name: str, layer_count: int) -> bool:
        """Whether the tensor `name` of a model with so many layers falls under this rule."""
        if not any(fnmatchcase(name, pattern) for pattern in self.tensors):
            return False
        return not self.layers or layer_of(name) in self._chosen(layer_count)

    def _chosen(self, layer_count: int) -> set[int]:
        counted = (layer + layer_count if layer < 0 else layer for layer in self.layers)
        return {layer for layer in counted if 0 <= layer < layer_count}


@dataclass(frozen=True)
class Recipe:
    """The types of a whole file: the rules in order, then `type` for every other matrix."""

    description: str
    type: str
    rule: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in BASE_NAMES:
            raise ValueError(f"type = {self.type!r}, expected one of {', '.join(BASE_NAMES)}")
        if not TYPES[self.type].is_quantized and self.rule:
            # llama-quantize looks at single tensors only when the main type is a quantized one.
            raise ValueError(
                f"type = {self.type!r} takes no rules; make a quantized type the main one"
            )

    def type_of(self, name: str, layer_count: int) -> TensorType:
        """The type of the matrix `name`: the first rule that matches, else the main type."""
        for rule in self.rule:
            if rule.matches(name, layer_count):
                return TYPES[rule.type]
        return TYPES[self.type]


def layer_of(name: str) -> int | None:
    """The layer a tensor belongs to, or None for the embedding and the last norm."""
    found = _LAYER.match(name)
    return int(found[1]) if found else None


def load(resource: resources.Resource) -> Recipe:
    """The recipe in a resource; `ConfigError` names file, table and key."""
    return schema.build(resources.read_table(resource), Recipe, resource.path)


def find(name: str) -> Recipe:
    """The recipe named `name`."""
    return load(resources.find("quant", name))
