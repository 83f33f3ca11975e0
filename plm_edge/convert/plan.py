"""Decides, before a byte is read, what becomes of every tensor of a checkpoint.

Every tensor is used exactly once or named as left out; anything else is an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from plm_edge.convert.checkpoint import Tensor
from plm_edge.convert.converter import Converter, Step, TensorRule
from plm_edge.convert.encode import OutputType
from plm_edge.convert.gguf_output import Output
from plm_edge.convert.hf_config import HfConfig
from plm_edge.convert.relayout import HeadSplit
from plm_edge.errors import InputError

Layout = Literal["edge", "stock"]
LAYOUTS: tuple[Layout, ...] = ("edge", "stock")

_Q8_BLOCK = 32


@dataclass(frozen=True)
class Move:
    """One tensor of the checkpoint, what is done to it, and what it becomes."""

    tensor: Tensor
    step: Step
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class Twin:
    """A tensor that is left out when it equals another one."""

    tensor: Tensor
    original: Tensor
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything `convert` will do with the weights."""

    moves: tuple[Move, ...]
    twins: tuple[Twin, ...]
    ignored: tuple[str, ...]
    split: HeadSplit
    notes: tuple[str, ...] = ()

    @property
    def outputs(self) -> list[Output]:
        """The tensors of the file in order."""
        return [output for move in self.moves for output in move.outputs]

    @property
    def parameters(self) -> int:
        """Weights that go into the file."""
        return sum(prod(move.tensor.shape) for move in self.moves)


def make_plan(
    config: HfConfig, tensors: Mapping[str, Tensor], layout: Layout, type_name: OutputType
) -> Plan:
    """Match the checkpoint against its converter; `InputError` names the tensor that does not."""
    converter, source = config.converter, config.path.parent
    rules = dict(_expanded(converter, config.shape.num_hidden_layers))
    same = {rule.checkpoint: rule for rule in converter.same}
    ignored = tuple(name for name in tensors if _is_ignored(name, rules, converter))
    missing = [name for name in rules if name not in tensors]
    if missing:
        raise InputError(f"{source}: tensor {missing[0]!r} is missing{_more(missing)}")
    extra = [name for name in tensors if name not in {*rules, *same, *ignored}]
    if extra:
        raise InputError(f"{source}: tensor {extra[0]!r} is not part of a PLM{_more(extra)}")
    moves = []
    for name in (name for name in tensors if name in rules):
        layer, rule = rules[name]
        _check_shape(tensors[name], converter.shape(rule, config.values), str(source))
        moves.append(_move(tensors[name], rule, layer, layout, type_name, config))
    twins = tuple(
        Twin(tensors[name], tensors[rule.copy_of], rule.reason)
        for name, rule in same.items()
        if name in tensors
    )
    return Plan(tuple(moves), twins, ignored, _head_split(config), _notes(moves, type_name))


def _expanded(converter: Converter, layers: int) -> Iterator[tuple[str, tuple[int, TensorRule]]]:
    for rule in converter.tensors:
        for layer in range(layers if rule.is_per_layer else 1):
            yield rule.checkpoint.replace("{layer}", str(layer)), (layer, rule)


def _is_ignored(name: str, rules: Mapping[str, object], converter: Converter) -> bool:
    return name not in rules and name.endswith(converter.ignored_endings)


def _more(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _check_shape(tensor: Tensor, expected: tuple[int, ...], source: str) -> None:
    if tensor.shape != expected:
        raise InputError(
            f"{source}: tensor {tensor.name!r} has the shape {list(tensor.shape)}, "
            f"expected {list(expected)} from config.json"
        )


def _head_split(config: HfConfig) -> HeadSplit:
    shape = config.shape
    return HeadSplit(shape.num_attention_heads, shape.qk_nope_head_dim, shape.v_head_dim)


def _move(
    tensor: Tensor,
    rule: TensorRule,
    layer: int,
    layout: Layout,
    type_name: OutputType,
    config: HfConfig,
) -> Move:
    step: Step = rule.edge if layout == "edge" else "keep"
    name = rule.gguf.replace("{layer}", str(layer))
    if step == "keep":
        return Move(tensor, step, (_output(name, tensor.shape, type_name),))
    if step == "transpose":
        return Move(tensor, step, (_output(name, tensor.shape[::-1], type_name),))
    heads, rank = config.shape.num_attention_heads, tensor.shape[1]
    shapes = (
        (heads, rank, config.shape.qk_nope_head_dim),
        (heads, config.shape.v_head_dim, rank),
    )
    names = [one.replace("{layer}", str(layer)) for one in rule.edge_names]
    outputs = [_output(*pair, type_name) for pair in zip(names, shapes, strict=True)]
    return Move(tensor, step, tuple(outputs))


def _output(name: str, shape: tuple[int, ...], type_name: OutputType) -> Output:
    """Norms stay f32; rows that q8_0's blocks do not divide become f16. Both as upstream does."""
    if len(shape) == 1 or name.endswith("_norm.weight"):
        return Output(name, shape, "f32")
    if type_name == "q8_0" and shape[-1] % _Q8_BLOCK:
        return Output(name, shape, "f16")
    return Output(name, shape, type_name)


def _notes(moves: Sequence[Move], type_name: OutputType) -> tuple[str, ...]:
    outputs = [output for move in moves for output in move.outputs]
    odd = [o for o in outputs if type_name == "q8_0" and o.type == "f16"]
    if not odd:
        return ()
    return (
        f"{len(odd)} tensors stay f16: {odd[0].name} has rows of {odd[0].shape[-1]}, "
        "no multiple of q8_0's 32",
    )
