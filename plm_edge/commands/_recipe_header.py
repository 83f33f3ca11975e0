"""The header a PLM-1.8B would have in a recipe: from the shape alone, nothing is made or read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from plm_edge import gguf_header
from plm_edge.convert import converter, plan, synth
from plm_edge.convert.hf_config import HfConfig
from plm_edge.gguf_header import GgufHeader, GgufTensor, GgufValue
from plm_edge.quantize import plan as quantize_plan
from plm_edge.quantize import recipe as recipes
from plm_edge.shape import GGUF_KEYS, PlmShape

if TYPE_CHECKING:
    from plm_edge.convert.checkpoint import Tensor

_NAME = Path("PLM-1.8B")


@dataclass(frozen=True)
class _Known:
    """A tensor of which only the shape is known, which is all that a plan looks at."""

    name: str
    shape: tuple[int, ...]


def plm_header(recipe: str, shape: PlmShape = PlmShape()) -> GgufHeader:
    """The header of an edge-layout file of that shape and recipe, with its exact tensor sizes."""
    planned = quantize_plan.make(_unquantized(shape), recipes.find(recipe))
    tensors = tuple(
        GgufTensor(entry.tensor.name, entry.tensor.shape, entry.type, 0, entry.size_bytes)
        for entry in planned.tensors
    )
    return _header(shape, tensors, planned.file_bytes)


def _unquantized(shape: PlmShape) -> GgufHeader:
    path = _NAME / "config.json"
    known = converter.for_architecture("PLMForCausalLM", path)
    config = HfConfig(path, asdict(shape), shape, known)
    sizes = synth.tensor_shapes(shape)
    tensors = {name: cast("Tensor", _Known(name, size)) for name, size in sizes.items()}
    outputs = plan.make_plan(config, tensors, "edge", "f16").outputs
    return _header(
        shape,
        tuple(GgufTensor(one.name, one.shape, one.type, 0, one.size_bytes) for one in outputs),
        sum(one.size_bytes for one in outputs),
    )


def _header(shape: PlmShape, tensors: tuple[GgufTensor, ...], size_bytes: int) -> GgufHeader:
    text, whole = gguf_header.STRING, gguf_header.U32
    values = {
        "general.architecture": GgufValue(text, "plm"),
        gguf_header.LAYOUT_KEY: GgufValue(text, "edge"),
        "plm.attention.key_length": GgufValue(whole, shape.qk_head_dim),
        **{key: GgufValue(whole, getattr(shape, name)) for name, key in GGUF_KEYS.items()},
    }
    return GgufHeader(_NAME, 3, values, tensors, quantize_plan.ALIGNMENT, 0, size_bytes)
