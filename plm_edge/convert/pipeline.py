"""`convert`: checkpoint folder or GGUF in, GGUF of either layout out, whole or not at all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_VERSION, LlamaFileType

from plm_edge.console import Progress, no_progress
from plm_edge.convert.card import general_metadata
from plm_edge.convert.checkpoint import open_tensors
from plm_edge.convert.converter import MetadataKey
from plm_edge.convert.encode import OUTPUT_TYPES, OutputType
from plm_edge.convert.gguf_output import (
    FileLayout,
    Output,
    boolean,
    f32,
    lay_out,
    string,
    u32,
)
from plm_edge.convert.hf_config import HfConfig, read_config
from plm_edge.convert.plan import LAYOUTS, Layout, Plan, make_plan
from plm_edge.convert.relayout import EDGE
from plm_edge.convert.relayout_gguf import Loss, Relayout, layout_of, new_values, plan_relayout
from plm_edge.convert.stream import Piece, write_file
from plm_edge.convert.tokenizer import Tokenizer, read_tokenizer
from plm_edge.convert.weights import check_twins, make_pieces
from plm_edge.errors import InputError, UsageError
from plm_edge.gguf_header import LAYOUT_KEY, RANDOM_KEY, GgufValue, is_gguf, read_header
from plm_edge.paths import atomic_path, require_space
from plm_edge.shell import quote

_FILE_TYPES: dict[OutputType, LlamaFileType] = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion did, or would do: sizes in bytes, tensor counts by type."""

    source: Path
    target: Path
    layout: Layout
    types: Mapping[str, int]
    tensors: int
    parameters: int
    size_bytes: int
    tokenizer: str
    is_random: bool
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    losses: tuple[Loss, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """A conversion that has been checked as far as headers and configs go; nothing is written."""

    report: ConvertReport
    layout: FileLayout
    pieces: Sequence[Piece]
    check: Callable[[], None]
    losses: Callable[[], tuple[Loss, ...]]

    def run(self, progress: Progress = no_progress, *, verify: bool = False) -> ConvertReport:
        """Write the file; on any failure nothing is left under its name."""
        target, start = self.report.target, time.monotonic()
        require_space(target, self.layout.size_bytes)
        self.check()
        with atomic_path(target) as temporary:
            write_file(temporary, self.layout, self.pieces, progress, verify=verify)
            self._check_written(temporary)
        seconds = time.monotonic() - start
        return replace(self.report, losses=self.losses(), seconds=seconds)

    def _check_written(self, path: Path) -> None:
        """The cheap look at the result: it parses, and every tensor is where it was planned."""
        header = read_header(path)
        placed = {tensor.name: tensor.offset for tensor in header.tensors}
        if placed != self.layout.offsets or header.size_bytes != self.layout.size_bytes:
            raise InputError(f"{self.report.target}: what was written does not read back")


def convert(
    source: Path,
    target: Path,
    *,
    layout: Layout = "edge",
    type_name: str | None = None,
    progress: Progress = no_progress,
    verify: bool = False,
) -> ConvertReport:
    """Convert a checkpoint folder (to f16 unless told) or a GGUF (to the other layout)."""
    job = prepare(source, target, layout=layout, type_name=type_name)
    return job.run(progress, verify=verify)


def prepare(
    source: Path, target: Path, *, layout: Layout = "edge", type_name: str | None = None
) -> Job:
    """Check everything that can be checked before weights are read, and plan the file."""
    if layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r}, expected {' or '.join(LAYOUTS)}")
    chosen = _output_type(type_name)
    if target.is_dir():
        raise InputError(f"{target}: is a folder", hint=f"-o {target / 'plm.gguf'}")
    if source.is_dir():
        _check_target(source, target)
        return _from_checkpoint(source, target, layout, chosen or "f16")
    if not source.exists():
        raise InputError(f"{source}: no such file or folder", hint=quote(["ls", source.parent]))
    if not is_gguf(source):
        raise InputError(f"{source}: neither a checkpoint folder nor a GGUF file")
    if target.exists() and target.samefile(source):
        raise UsageError(f"{target}: is the source itself")
    return _from_gguf(source, target, layout, chosen)


def _check_target(source: Path, target: Path) -> None:
    """A slip of the finger must not replace a file of the checkpoint by the result."""
    inside = target.parent.resolve() == source.resolve()
    if inside and target.exists() and not is_gguf(target):
        raise UsageError(f"{target}: is a file of the checkpoint itself")


def _output_type(name: str | None) -> OutputType | None:
    found = next((kind for kind in OUTPUT_TYPES if kind == name), None)
    if name is not None and found is None:
        raise UsageError(f"type {name!r}, expected one of {', '.join(OUTPUT_TYPES)}")
    return found


def _from_checkpoint(source: Path, target: Path, layout: Layout, type_name: OutputType) -> Job:
    config = read_config(source)
    plan = make_plan(config, open_tensors(source), layout, type_name)
    tokenizer = read_tokenizer(source, config.shape.vocab_size)
    values = _values(config, plan, tokenizer, layout, type_name)
    file_layout = lay_out(values, plan.outputs)
    report = ConvertReport(
        source=source,
        target=target,
        layout=layout,
        types=_count_types(plan.outputs),
        tensors=len(plan.outputs),
        parameters=plan.parameters,
        size_bytes=file_layout.size_bytes,
        tokenizer=_described(tokenizer),
        is_random=config.is_random,
        ignored=(*plan.ignored, *(twin.tensor.name for twin in plan.twins)),
        notes=(*plan.notes, *tokenizer.notes),
    )
    pieces = make_pieces(plan, file_layout, str(source))
    return Job(report, file_layout, pieces, lambda: check_twins(plan, str(source)), tuple)


def _values(
    config: HfConfig, plan: Plan, tokenizer: Tokenizer, layout: Layout, type_name: OutputType
) -> dict[str, GgufValue]:
    """All metadata, in upstream's order; ours (layout, random) after its last architecture key."""
    values = {
        "general.architecture": string(config.converter.gguf_architecture),
        "general.type": string("model"),
        **general_metadata(config.path.parent, plan.parameters),
    }
    for key in config.converter.keys:
        stored = _key_value(key, config.values, type_name)
        if stored is not None:
            values[key.gguf] = stored
    if layout == "edge":
        values[LAYOUT_KEY] = string(EDGE)
    if config.is_random:
        values[RANDOM_KEY] = boolean(True)
    values["general.quantization_version"] = u32(GGML_QUANT_VERSION)
    return {**values, **tokenizer.values}


def _key_value(
    key: MetadataKey, config: Mapping[str, Any], type_name: OutputType
) -> GgufValue | None:
    if key.value == "file-type":
        return u32(int(_FILE_TYPES[type_name]))
    if key.optional and any(config.get(name) is None for name in key.config):
        return None
    total = sum(config[name] for name in key.config)
    return f32(float(total)) if key.type == "f32" else u32(int(total))


def _described(tokenizer: Tokenizer) -> str:
    name = f"{tokenizer.kind}/{tokenizer.pre}" if tokenizer.pre else tokenizer.kind
    return f"{name}, {tokenizer.tokens} tokens and {tokenizer.padding} for padding"


def _count_types(outputs: Sequence[Output]) -> dict[str, int]:
    return dict(Counter(output.type for output in outputs).most_common())


def _from_gguf(source: Path, target: Path, layout: Layout, type_name: OutputType | None) -> Job:
    header = read_header(source)
    relayout = plan_relayout(header, layout, type_name)
    file_layout = lay_out(new_values(header, layout), relayout.outputs)
    report = ConvertReport(
        source=source,
        target=target,
        layout=layout,
        types=_count_types(relayout.outputs),
        tensors=len(relayout.outputs),
        parameters=sum(tensor.values for tensor in header.tensors),
        size_bytes=file_layout.size_bytes,
        tokenizer=str(header.metadata.get("tokenizer.ggml.model", "none")),
        is_random=header.metadata.get(RANDOM_KEY) is True,
        ignored=(),
        notes=_relayout_notes(relayout),
    )
    pieces = relayout.pieces(file_layout)
    return Job(report, file_layout, pieces, lambda: None, lambda: _sorted(relayout.losses))


def _sorted(losses: Sequence[Loss]) -> tuple[Loss, ...]:
    return tuple(sorted(losses, key=lambda loss: (-loss.relative_error, loss.tensor)))


def _relayout_notes(relayout: Relayout) -> tuple[str, ...]:
    anew = [
        change
        for change in relayout.changes
        if change.compute and any(s.type not in ("f32", "f16", "bf16") for s in change.sources)
    ]
    if not anew or layout_of(relayout.header) != "stock":
        return ()
    return (
        "quantized tensors were encoded anew; the engine runs the stock file as it is, and a "
        "quantization of the original checkpoint in edge layout is smaller and closer to it",
    )
