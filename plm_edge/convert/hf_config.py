"""A checkpoint's `config.json`: read, brought to one form, and checked against the converter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.convert import converter as converters
from plm_edge.convert.converter import Converter
from plm_edge.convert.json_file import read_object
from plm_edge.errors import InputError
from plm_edge.shape import PlmShape

RANDOM_KEY = "plm_edge_random"
_UNSCALED = (None, "default")


@dataclass(frozen=True)
class HfConfig:
    """A config that passed: every size in it is a whole number in range."""

    path: Path
    values: Mapping[str, Any]
    shape: PlmShape
    converter: Converter

    @property
    def is_random(self) -> bool:
        """Whether the weights were made up (a synthesized checkpoint)."""
        return self.values.get(RANDOM_KEY) is True


def read_config(folder: Path) -> HfConfig:
    """Read and check `config.json`; `InputError` names the key and the value seen."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder}: no config.json in it, so it is no Hugging Face checkpoint",
            hint="plm-edge pull PLM-Team/PLM-1.8B-Instruct",
        )
    values = _with_flat_rope(read_object(path), path)
    converter = converters.for_architecture(_architecture(values, path), path)
    for requirement in converter.requires:
        requirement.check(values, str(path))
    shape = PlmShape.from_config(values, str(path))
    _check_key_value_heads(values, shape, path)
    return HfConfig(path, values, shape, converter)


def _architecture(values: Mapping[str, Any], path: Path) -> str:
    names = values.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InputError(f"{path}: architectures = {names!r}, expected a list with one name")
    return names[0]


def _with_flat_rope(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Newer configs nest `rope_theta` in `rope_parameters`; older ones have it on top."""
    nested = values.get("rope_parameters")
    if nested is None:
        return values
    if not isinstance(nested, dict):
        raise InputError(f"{path}: rope_parameters = {nested!r}, expected an object")
    kind = nested.get("rope_type", nested.get("type"))
    if kind not in _UNSCALED:
        raise InputError(
            f"{path}: rope_parameters.rope_type = {kind!r}: PLM's positions are not scaled, "
            "and the engine would ignore it"
        )
    flat = {"rope_theta": nested["rope_theta"]} if "rope_theta" in nested else {}
    return {**values, **flat}


def _check_key_value_heads(values: Mapping[str, Any], shape: PlmShape, path: Path) -> None:
    heads = values.get("num_key_value_heads", shape.num_attention_heads)
    if heads is not None and (isinstance(heads, bool) or heads != shape.num_attention_heads):
        raise InputError(
            f"{path}: num_key_value_heads = {heads!r}, expected {shape.num_attention_heads}: "
            "every head has its own key and value in latent attention"
        )
