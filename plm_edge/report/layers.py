"""Layer by layer: how many bits each matrix has, and which share of the neurons stays silent."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from plm_edge.bench.rows import Row
from plm_edge.gguf_header import GgufHeader, GgufTensor
from plm_edge.report.figures_text import label, size
from plm_edge.report.inputs import Activity, Inputs
from plm_edge.report.page import Figure, Lines, Map, Section, Series, Table

_LAYER = re.compile(r"^blk\.(\d+)\.(.+)\.weight$")


def bits_section(inputs: Inputs) -> Section | None:
    """A map for each GGUF file given."""
    if not inputs.files:
        return None
    figures = tuple(_bit_figure(header) for header in inputs.files)
    tables = tuple(make(h) for h in inputs.files for make in (_type_table, _bit_table))
    return Section(
        id="bits",
        title="Bits per layer",
        lead="Bits per weight of every matrix, as the files have them; a stronger colour is more.",
        figures=figures,
        tables=tables,
        commands=tuple(word for figure in figures for word in figure.commands),
    )


def _matrices(header: GgufHeader) -> dict[tuple[str, int], GgufTensor]:
    """The matrices of the layers by role and layer; norms are too small to matter."""
    found = {}
    for tensor in header.tensors:
        match = _LAYER.match(tensor.name)
        if match and len(tensor.shape) > 1:
            found[(match[2], int(match[1]))] = tensor
    return found


def _bit_figure(header: GgufHeader) -> Figure:
    matrices = _matrices(header)
    roles = sorted(dict.fromkeys(role for role, _ in matrices))
    layers = sorted({layer for _, layer in matrices})
    values = tuple(
        tuple(bits_of(matrices[(r, n)]) if (r, n) in matrices else None for n in layers)
        for r in roles
    )
    chart = Map("layer", tuple(roles), tuple(map(str, layers)), values, "bits per weight")
    name = label(header.path.name, is_random=header.is_random)
    command = shlex.join(["plm-edge", "inspect", str(header.path), "--tensors"])
    return Figure(name, chart, (command,))


def _bit_table(header: GgufHeader) -> Table:
    """The map in words: layers that follow each other with the same bits are one entry."""
    matrices = _matrices(header)
    roles = sorted(dict.fromkeys(role for role, _ in matrices))
    rows = [
        (role, _runs({n: bits_of(matrices[(r, n)]) for r, n in sorted(matrices) if r == role}))
        for role in roles
    ]
    return Table(("matrix", "bits per weight by layer"), tuple(rows), numbers_from=2)


def _runs(bits: dict[int, float]) -> str:
    parts = []
    for value, found in groupby(bits.items(), key=lambda entry: entry[1]):
        layers = [layer for layer, _ in found]
        span = f"{layers[0]}" if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
        parts.append(f"{span}: {value:.3g}")
    return ", ".join(parts)


def bits_of(tensor: GgufTensor) -> float:
    """Bits per weight of one tensor."""
    return 8 * tensor.size_bytes / tensor.values


def _type_table(header: GgufHeader) -> Table:
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for tensor in header.tensors:
        sizes[tensor.type] += tensor.size_bytes
        counts[tensor.type] += 1
    rows = [
        (name, str(counts[name]), size(size_bytes), f"{size_bytes / sizes.total():.1%}")
        for name, size_bytes in sizes.most_common()
    ]
    name = label(header.path.name, is_random=header.is_random)
    caption = f"{name}: {size(header.size_bytes)}"
    return Table(("type", "tensors", "bytes", "share"), tuple(rows), caption=caption)


def sparsity_section(inputs: Inputs) -> Section | None:
    """Silent neurons by layer, as the engine counted them or `inspect --sparsity` did."""
    rows = _counted(inputs.bench)
    if not rows and not inputs.activities:
        return None
    shares = {
        label(row.model.name, is_random=row.model.is_random): _silent(row) for row in rows
    } | {
        _activity_name(one): [layer.zero_share for layer in one.layers] for one in inputs.activities
    }
    series = tuple(
        Series(name, tuple(map(float, range(len(values)))), tuple(100 * value for value in values))
        for name, values in shares.items()
    )
    read = (
        f"plm-edge inspect FILE --sparsity TEXT --json > {a.name}.json" for a in inputs.activities
    )
    commands = tuple(dict.fromkeys([*(row.command for row in rows), *read]))
    chart = Lines("layer", "silent neurons, %", series, top=100)
    return Section(
        id="sparsity",
        title="Sparsity per layer",
        lead="The share of squared-ReLU outputs that are exactly zero. The engine counts while it "
        "generates a few tokens; inspect --sparsity runs a text through the reference.",
        figures=(Figure("What the FFN need not read", chart, commands),),
        tables=(_sparsity_table(shares),),
        commands=commands,
    )


def _counted(bench: Sequence[Row]) -> list[Row]:
    """The newest row of each file that holds the engine's count."""
    found = {row.model.sha256: row for row in bench if row.reading and row.reading.live_by_layer}
    return list(found.values())


def _silent(row: Row) -> list[float]:
    assert row.reading is not None
    return [1 - share for share in row.reading.live_by_layer]


def _activity_name(one: Activity) -> str:
    return f"{one.name} ({one.tokens:,} tokens)"


def _sparsity_table(shares: dict[str, list[float]]) -> Table:
    layers = max(map(len, shares.values()))
    rows = []
    for layer in range(layers):
        cells = [f"{v[layer]:.1%}" if layer < len(v) else "" for v in shares.values()]
        rows.append((str(layer), *cells))
    means = [f"{sum(values) / len(values):.1%}" for values in shares.values()]
    return Table(("layer", *shares), (*rows, ("mean", *means)))
