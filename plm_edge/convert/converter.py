"""A converter: one TOML that says which tensor and which config key becomes which.

The file is `converters/NAME.toml`; `[[tensors]]` are in the checkpoint's shapes (rows first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from plm_edge import resources
from plm_edge.errors import InputError
from plm_edge.resources import Resource
from plm_edge.schema import build

Step = Literal["keep", "transpose", "split-heads"]


@dataclass(frozen=True)
class Dimension:
    """A size made of config keys: the product of `times` with the sum of `sum`."""

    sum: tuple[str, ...]
    times: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.sum:
            raise ValueError("sum is empty, expected config keys")

    def size(self, config: Mapping[str, Any]) -> int:
        """The size under a checked config."""
        total = sum(int(config[key]) for key in self.sum)
        return total * prod(int(config[key]) for key in self.times)


@dataclass(frozen=True)
class MetadataKey:
    """One GGUF key: the sum of config values, or the file's type id where `value` says so."""

    gguf: str
    type: Literal["u32", "f32"] = "u32"
    config: tuple[str, ...] = ()
    value: Literal["config", "file-type"] = "config"
    optional: bool = False

    def __post_init__(self) -> None:
        if (self.value == "config") != bool(self.config):
            raise ValueError(f"key {self.gguf!r} needs config keys, or value = 'file-type'")


@dataclass(frozen=True)
class TensorRule:
    """One tensor of the checkpoint (of every layer where the name holds {layer}) and its fate.

    `edge` is what the edge layout does with it; `edge_names` are its names there when it splits.
    """

    checkpoint: str
    gguf: str
    shape: tuple[str, ...]
    edge: Step = "keep"
    edge_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if ("{layer}" in self.checkpoint) != ("{layer}" in self.gguf):
            raise ValueError(f"{self.checkpoint!r} and {self.gguf!r} must both hold {{layer}}")
        if (len(self.edge_names) == 2) != (self.edge == "split-heads"):
            raise ValueError(f"{self.checkpoint!r}: edge = 'split-heads' needs two edge_names")
        if self.edge != "keep" and len(self.shape) != 2:
            raise ValueError(f"{self.checkpoint!r}: edge = {self.edge!r} needs two dimensions")

    @property
    def is_per_layer(self) -> bool:
        """Whether there is one such tensor in every layer."""
        return "{layer}" in self.checkpoint


@dataclass(frozen=True)
class Requirement:
    """A config key whose value we can run only when it is one of `allowed` (null always is)."""

    key: str
    allowed: tuple[Any, ...]
    reason: str
    required: bool = False

    def check(self, config: Mapping[str, Any], source: str) -> None:
        """Raise `InputError` with the reason unless the config's value can be run."""
        value = config.get(self.key)
        if value is None and not self.required:
            return
        # Without the type, JSON's 1 would pass for true.
        if not any(value == one and type(value) is type(one) for one in self.allowed):
            shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
            raise InputError(f"{source}: {self.key} = {shown}: {self.reason}")


@dataclass(frozen=True)
class SameTensor:
    """A tensor some savers write twice; it must equal `copy_of` and is then left out."""

    checkpoint: str
    copy_of: str
    reason: str


@dataclass(frozen=True)
class Converter:
    """Everything about one source architecture."""

    architectures: tuple[str, ...]
    gguf_architecture: str
    layers: str
    dimensions: dict[str, Dimension]
    keys: tuple[MetadataKey, ...]
    tensors: tuple[TensorRule, ...]
    requires: tuple[Requirement, ...] = ()
    same: tuple[SameTensor, ...] = ()
    ignored_endings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for names in ([rule.checkpoint for rule in self.tensors], [key.gguf for key in self.keys]):
            if len(set(names)) != len(names):
                raise ValueError(f"{max(names, key=names.count)!r} appears twice")
        if not self.architectures or not self.tensors:
            raise ValueError("architectures and tensors must not be empty")

    def shape(self, rule: TensorRule, config: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape a rule's tensor must have under a checked config."""
        return tuple(
            self.dimensions[name].size(config) if name in self.dimensions else config[name]
            for name in rule.shape
        )


def load(resource: Resource) -> Converter:
    """Read a converter; `ConfigError` names file and key."""
    return build(resources.read_table(resource), Converter, resource.path)


def for_architecture(architecture: str, source: Path) -> Converter:
    """The converter that knows `architecture` (from a config or a GGUF), or an `InputError`."""
    known: list[str] = []
    for resource in resources.list_all("converters"):
        converter = load(resource)
        if architecture in (*converter.architectures, converter.gguf_architecture):
            return converter
        known += converter.architectures
    raise InputError(
        f"{source}: architecture {architecture[:80]!r}, expected {' or '.join(known)}",
        hint="plm-edge converter list",
    )
