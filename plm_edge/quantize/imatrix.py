"""An importance matrix: how much each input column of each matrix carries, from text.

The file is llama.cpp's (GGUF, `NAME.in_sum2` and `NAME.counts`), so llama-quantize reads it. It
also says which weights and which layout it was measured on, and carries what llama-quantize has no
use for: the output of every neuron, as `NAME.neurons.in_sum2`. A neuron of the edge layout is a row
of ffn_down, and one weight for a whole row does not move a rounding within it; it tells how much an
error in that row costs (sensitivity) and which neurons never fire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge import paths
from plm_edge.errors import InputError
from plm_edge.gguf_header import STRING, U32, GgufHeader, GgufTensor, GgufValue, read_header
from plm_edge.shell import quote

_SUMS, _COUNTS, _NEURONS = ".in_sum2", ".counts", ".neurons"
_TYPE, _DATASETS = "imatrix", "imatrix.datasets"
_CHUNKS, _CHUNK_SIZE = "imatrix.chunk_count", "imatrix.chunk_size"
_WEIGHTS, _LAYOUT, _TEXTS = (f"plm_edge.imatrix.{key}" for key in ("weights", "layout", "texts"))


@dataclass(frozen=True)
class Entry:
    """One matrix, or a stack of them: sums of squares (matrices, columns) over `count` tokens."""

    sums: NDArray[np.float32]
    count: int

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean squares."""
        return np.asarray(self.sums / max(self.count, 1), np.float32)


@dataclass(frozen=True)
class Origin:
    """What an importance matrix was measured on; texts as (name, sha256)."""

    weights: str
    layout: str
    texts: tuple[tuple[str, str], ...]
    context: int
    windows: int


@dataclass(frozen=True)
class Imatrix:
    """Importance by tensor name; `neurons` by the name of a neuron-major ffn_down."""

    origin: Origin
    columns: Mapping[str, Entry]
    neurons: Mapping[str, Entry]

    @property
    def entries(self) -> int:
        """How many tensors llama-quantize counts in the file."""
        return len(self.columns) + len(self.neurons)


def weights_id(header: GgufHeader) -> str:
    """Names a model whatever its matrices' types: a hash of its norms, which always stay f32."""
    digest = hashlib.sha256()
    try:
        with header.path.open("rb") as file:
            for tensor in sorted(header.tensors, key=lambda tensor: tensor.name):
                if not tensor.name.endswith("norm.weight"):
                    continue
                file.seek(tensor.offset)
                digest.update(tensor.name.encode() + file.read(tensor.size_bytes))
    except OSError as error:
        raise paths.read_error(header.path, error) from error
    return digest.hexdigest()


def require_fit(imatrix: Imatrix, path: Path, header: GgufHeader) -> None:
    """Raise `InputError` unless the matrix was measured on this model in this layout."""
    origin = imatrix.origin
    hint = quote(["plm-edge", "imatrix", header.path, "--text", "TEXT", "-o", "NEW.gguf"])
    if origin.layout != header.layout:
        raise InputError(
            f"{path}: measured on the {origin.layout} layout, {header.path} has {header.layout}",
            hint=hint,
        )
    if origin.weights != weights_id(header):
        raise InputError(f"{path}: measured on another model than {header.path}", hint=hint)
    for name, entry in imatrix.columns.items():
        tensor = header.tensor(name)
        expected = (int(np.prod(tensor.shape[:-2])), tensor.shape[-1])
        if entry.sums.shape != expected:
            raise InputError(f"{path}: {name} has {entry.sums.shape}, expected {expected}")


def merge(first: Imatrix, second: Imatrix, path: Path) -> Imatrix:
    """Both together; `path` names the second one in errors."""
    mine, theirs = first.origin, second.origin
    if (mine.weights, mine.layout) != (theirs.weights, theirs.layout):
        raise InputError(f"{path}: measured on another model or layout than the ones before it")
    for name, digest in theirs.texts:
        if digest in {known for _, known in mine.texts}:
            raise InputError(f"{path}: {name} is in already, and would count twice")
    origin = Origin(
        mine.weights,
        mine.layout,
        mine.texts + theirs.texts,
        max(mine.context, theirs.context),
        mine.windows + theirs.windows,
    )
    columns = _merged(first.columns, second.columns, path)
    return Imatrix(origin, columns, _merged(first.neurons, second.neurons, path))


def summed(parts: Sequence[Imatrix], path: Path) -> Imatrix:
    """One matrix from those of single windows of one text; `path` names them in errors."""
    whole = parts[0]
    for part in parts[1:]:
        origin = replace(whole.origin, windows=whole.origin.windows + part.origin.windows)
        columns = _merged(whole.columns, part.columns, path)
        whole = Imatrix(origin, columns, _merged(whole.neurons, part.neurons, path))
    return whole


def _merged(mine: Mapping[str, Entry], theirs: Mapping[str, Entry], path: Path) -> dict[str, Entry]:
    if mine.keys() != theirs.keys():
        odd = sorted(mine.keys() ^ theirs.keys())[0]
        raise InputError(f"{path}: only one of the files has {odd}")
    return {
        name: Entry(mine[name].sums + theirs[name].sums, mine[name].count + theirs[name].count)
        for name in mine
    }


def quantizer_keys(imatrix: Imatrix, path: Path) -> dict[str, GgufValue]:
    """What llama-quantize writes into a file made with this matrix, as it cuts it."""
    texts = {"file": str(path)}
    if imatrix.origin.texts:
        texts["dataset"] = imatrix.origin.texts[0][0]
    numbers = {"entries_count": imatrix.entries}
    if imatrix.origin.windows:
        numbers["chunks_count"] = imatrix.origin.windows
    keys = {f"quantize.imatrix.{key}": GgufValue(STRING, _cut(text)) for key, text in texts.items()}
    return keys | {f"quantize.imatrix.{key}": GgufValue(U32, n) for key, n in numbers.items()}


def _cut(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[:127].decode("utf-8", "surrogateescape")


# File


def write(path: Path, imatrix: Imatrix) -> None:
    """Write the file, whole or not at all."""
    import gguf

    origin = imatrix.origin
    with paths.atomic_path(path) as part:
        writer = gguf.GGUFWriter(part, "plm")
        writer.add_type(_TYPE)
        writer.add_array(_DATASETS, [name for name, _ in origin.texts])
        writer.add_uint32(_CHUNKS, origin.windows)
        writer.add_uint32(_CHUNK_SIZE, origin.context)
        writer.add_string(_WEIGHTS, origin.weights)
        writer.add_string(_LAYOUT, origin.layout)
        writer.add_array(_TEXTS, [digest for _, digest in origin.texts])
        for name, entry in _named(imatrix):
            count = np.full((len(entry.sums), 1), entry.count, np.float32)
            writer.add_tensor(name + _SUMS, np.ascontiguousarray(entry.sums, np.float32))
            writer.add_tensor(name + _COUNTS, count)
        for step in ("header", "kv_data", "tensors"):
            getattr(writer, f"write_{step}_to_file")()
        writer.close()


def _named(imatrix: Imatrix) -> list[tuple[str, Entry]]:
    neurons = {name + _NEURONS: entry for name, entry in imatrix.neurons.items()}
    return sorted({**imatrix.columns, **neurons}.items())


def read(path: Path) -> Imatrix:
    """Read a file of ours; `InputError` for one that does not say what it was measured on."""
    header = read_header(path)
    meta = header.metadata
    if meta.get("general.type") != _TYPE:
        raise InputError(f"{path}: is no importance matrix", hint="plm-edge imatrix --help")
    if not isinstance(meta.get(_WEIGHTS), str) or not isinstance(meta.get(_LAYOUT), str):
        raise InputError(
            f"{path}: does not say which model and layout it was measured on",
            hint="make it anew with plm-edge imatrix",
        )
    texts = tuple(zip(_strings(meta, _DATASETS), _strings(meta, _TEXTS), strict=False))
    origin = Origin(
        meta[_WEIGHTS], meta[_LAYOUT], texts, int(meta[_CHUNK_SIZE]), int(meta[_CHUNKS])
    )
    columns: dict[str, Entry] = {}
    neurons: dict[str, Entry] = {}
    for tensor in header.tensors:
        if tensor.name.endswith(_SUMS):
            name = tensor.name.removesuffix(_SUMS)
            to = neurons if name.endswith(_NEURONS) else columns
            to[name.removesuffix(_NEURONS)] = _entry(header, tensor, name)
    return Imatrix(origin, columns, neurons)


def _strings(meta: Mapping[str, Any], key: str) -> Sequence[str]:
    found = meta.get(key)
    return [str(item) for item in found] if isinstance(found, list) else []


def _entry(header: GgufHeader, tensor: GgufTensor, name: str) -> Entry:
    counts = _values(header, header.tensor(name + _COUNTS))
    sums = _values(header, tensor)
    if not np.isfinite(sums).all():
        raise InputError(f"{header.path}: {name} holds what is no number")
    return Entry(sums.reshape(-1, tensor.shape[-1]), int(counts.flat[0]))


def _values(header: GgufHeader, tensor: GgufTensor) -> NDArray[np.float32]:
    if tensor.type != "f32":
        raise InputError(f"{header.path}: {tensor.name} is {tensor.type}, expected f32")
    try:
        values = np.fromfile(header.path, np.float32, tensor.values, offset=tensor.offset)
    except OSError as error:
        raise paths.read_error(header.path, error) from error
    return values.reshape(tensor.shape)
