"""The best formats for a file within a budget of bytes, and the recipe that says so.

Costs of single matrices are added up: each is measured with all others whole, which holds as long
as they are small. What a file really costs is measured afterwards, on the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plm_edge.errors import InputError
from plm_edge.quantize import knapsack
from plm_edge.quantize.candidates import Candidate
from plm_edge.quantize.knapsack import Option
from plm_edge.quantize.plan import role
from plm_edge.quantize.recipe import Recipe, Rule, layer_of
from plm_edge.quantize.sensitivity import Pair
from plm_edge.quantize.tensor_types import TYPES


@dataclass(frozen=True)
class Space:
    """What may be chosen: the matrices, the cost of each format, and the bytes of all else."""

    candidates: tuple[Candidate, ...]
    costs: Mapping[Pair, float]
    fixed_bytes: int

    def smallest_bytes(self) -> int:
        """The smallest file there can be."""
        return smallest_bytes(self.candidates, self.fixed_bytes)


@dataclass(frozen=True)
class Choice:
    """A format for every matrix. `bound`: no choice of that size is foretold to cost less."""

    types: Mapping[str, str]
    file_bytes: int
    cost: float
    bound: float


def smallest_bytes(candidates: Sequence[Candidate], fixed_bytes: int) -> int:
    """The smallest file there can be."""
    return fixed_bytes + sum(one.size_bytes(one.types[0]) for one in candidates)


def require_reachable(candidates: Sequence[Candidate], fixed_bytes: int, budget: int) -> None:
    """Raise `InputError` that says the smallest file there can be, before anything is measured."""
    least = smallest_bytes(candidates, fixed_bytes)
    if least > budget:
        raise InputError(
            f"no file of {budget:,} bytes can be made: the smallest with these formats has "
            f"{least:,}",
            hint=f"--budget {least}",
        )


def choose(space: Space, budget: int) -> Choice:
    """The cheapest file of at most `budget` bytes."""
    require_reachable(space.candidates, space.fixed_bytes, budget)
    items = [
        [Option(one.size_bytes(kind), space.costs[one.tensor.name, kind]) for kind in one.types]
        for one in space.candidates
    ]
    found = knapsack.solve(items, budget - space.fixed_bytes)
    assert found is not None
    types = {
        one.tensor.name: one.types[index]
        for one, index in zip(space.candidates, found.chosen, strict=True)
    }
    return Choice(types, space.fixed_bytes + found.size, found.cost, found.bound)


def cost_of(space: Space, types: Mapping[str, str]) -> float:
    """What a file of these formats is foretold to cost."""
    return sum(space.costs[pair] for pair in types.items())


def recipe(space: Space, types: Mapping[str, str], description: str) -> Recipe:
    """A recipe that gives exactly these types to this model."""
    main = _heaviest(space, types)
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for one in space.candidates:
        kind = types[one.tensor.name]
        if kind != main:
            groups.setdefault((role(one.tensor.name), kind), []).append(one)
    whole = _layers_by_role(space.candidates)
    rules = [_rule(space, name, kind, group, whole) for (name, kind), group in groups.items()]
    return Recipe(description, main, tuple(sorted(rules, key=lambda rule: rule.tensors)))


def _heaviest(space: Space, types: Mapping[str, str]) -> str:
    """The main type; a quantized one wherever there is one, since only those take rules."""
    sizes: dict[str, int] = {}
    for one in space.candidates:
        kind = types[one.tensor.name]
        sizes[kind] = sizes.get(kind, 0) + one.size_bytes(kind)
    return max(sizes, key=lambda kind: (TYPES[kind].is_quantized, sizes[kind], kind))


def _layers_by_role(candidates: Sequence[Candidate]) -> dict[str, tuple[int, ...]]:
    layers: dict[str, list[int]] = {}
    for one in candidates:
        if (layer := layer_of(one.tensor.name)) is not None:
            layers.setdefault(role(one.tensor.name), []).append(layer)
    return {name: tuple(sorted(found)) for name, found in layers.items()}


def _rule(
    space: Space,
    name: str,
    kind: str,
    group: Sequence[Candidate],
    whole: Mapping[str, tuple[int, ...]],
) -> Rule:
    layers = tuple(
        sorted(layer for one in group if (layer := layer_of(one.tensor.name)) is not None)
    )
    tensors = (f"blk.*.{name}",) if layers else (name,)
    chosen = layers if layers != whole.get(name) else ()
    return Rule(tensors, kind, _reason(space, kind, group), chosen)


def _reason(space: Space, kind: str, group: Sequence[Candidate]) -> str:
    """The cost here, and that of the next format down and up."""
    parts = [f"KL {_total(space, group, 0, kind):.2e} here"]
    for step, word in ((-1, "a format smaller"), (1, "a format larger")):
        if all(0 <= one.types.index(kind) + step < len(one.types) for one in group):
            cost = _total(space, group, step, kind)
            moved = sum(one.size_bytes(_beside(one, kind, step)) for one in group) - sum(
                one.size_bytes(kind) for one in group
            )
            parts.append(f"{cost:.2e} {word} ({moved:+,} bytes)")
    return ", ".join(parts)


def _beside(one: Candidate, kind: str, step: int) -> str:
    return one.types[one.types.index(kind) + step]


def _total(space: Space, group: Sequence[Candidate], step: int, kind: str) -> float:
    return sum(space.costs[one.tensor.name, _beside(one, kind, step)] for one in group)
