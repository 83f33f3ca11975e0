"""Runs the engine's own quantizer on a plan, whole or not at all, and checks what it wrote."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plm_edge import paths, shell
from plm_edge.console import Progress, no_progress
from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError, ToolError
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.quantize.plan import Plan, TensorPlan

TOOL = "llama-quantize"
# Rows it holds in memory at once; by default it takes a whole tensor, 1.9 GB for PLM's embedding.
_BUFFER_MIB = 256
_FULL_DISK_BYTES = 16 << 20
# `[  12/ 355]  blk.3.ffn_up.weight - [2048, 8192, 1, 1], type = f16, converting to q4_0 .. size =`
_TENSOR_LINE = re.compile(r"^\[ *(\d+)/ *(\d+)\] +(\S+) ")


@dataclass(frozen=True)
class Request:
    """A file to quantize, where to, and on how many threads (0: as many as there are cores)."""

    source: GgufHeader
    target: Path
    threads: int = 0
    allow_requantize: bool = False
    importance: Path | None = None


@dataclass(frozen=True)
class Report:
    """What was written."""

    path: Path
    file_bytes: int
    bits_per_weight: float
    seconds: float


def check(request: Request, plan: Plan) -> None:
    """Raise before any work: source over itself, quantized twice, disk too small."""
    source, target = request.source.path, request.target
    if target.exists() and source.samefile(target):
        raise InputError(f"{target}: is the file to read; write to another one")
    if target.is_dir():
        raise InputError(f"{target}: is a folder, expected a file name")
    if plan.requantized and not request.allow_requantize:
        first = plan.requantized[0]
        raise InputError(
            f"{source}: {first.tensor.name} is {first.tensor.type} already; "
            f"quantizing {len(plan.requantized)} tensors twice loses precision",
            hint="quantize the f16 file, or add --allow-requantize",
        )
    paths.require_space(target, plan.file_bytes)


def apply(request: Request, plan: Plan, engine: Engine, progress: Progress = no_progress) -> Report:
    """Write the file; `progress` counts bytes of the source.

    The types and the size of the result are read back; a file that differs from the plan is
    thrown away with `ToolError`.
    """
    check(request, plan)
    started = time.monotonic()
    with paths.atomic_path(request.target) as part:
        run(request, plan.base_name, plan.tensors, engine, part, byte_reader(plan, progress))
        verify(part, plan)
    seconds = time.monotonic() - started
    return Report(request.target, plan.file_bytes, plan.bits_per_weight, seconds)


def apply_mix(request: Request, mix: str, engine: Engine) -> None:
    """Write the file with one of llama-quantize's own mixes, as the stock engine's users would."""
    with paths.atomic_path(request.target) as part:
        run(request, mix, (), engine, part, lambda line: None)
        read_header(part)


def run(
    request: Request,
    base_name: str,
    tensors: tuple[TensorPlan, ...],
    engine: Engine,
    part: Path,
    on_line: Callable[[str], None],
) -> None:
    """Call llama-quantize; without `tensors` it mixes types by its own rules for `base_name`."""
    command: list[str | Path] = [engine.tool(TOOL), "--max-buffer-size", str(_BUFFER_MIB)]
    if request.allow_requantize:
        command.append("--allow-requantize")
    if request.importance is not None:
        command += ["--imatrix", request.importance]
    log = paths.state_dir() / "logs" / f"quantize-{os.getpid()}.log"
    log.unlink(missing_ok=True)
    types = part.with_suffix(".types")
    try:
        if tensors:
            types.write_text(type_lines(tensors), encoding="utf-8")
            command += ["--tensor-type-file", types]
        command += [request.source.path.resolve(), part, base_name]
        command += [str(request.threads)] if request.threads else []
        shell.run_logged(command, log, env=engine.run_environment(), on_line=on_line)
    except ToolError:
        # The quantizer itself only says that a stream failed.
        if shutil.disk_usage(part.parent).free < _FULL_DISK_BYTES:
            raise paths.write_error(request.target, OSError(errno.ENOSPC, "")) from None
        raise
    finally:
        types.unlink(missing_ok=True)
    log.unlink(missing_ok=True)


def type_lines(tensors: tuple[TensorPlan, ...]) -> str:
    """The file for --tensor-type-file: an anchored expression and a type per matrix.

    Every one is named, so that none of the quantizer's own rules by name or layer applies.
    """
    named = [(entry.tensor.name, entry.type) for entry in tensors if entry.is_matrix]
    return "".join("^{}$={}\n".format(name.replace(".", r"\."), kind) for name, kind in named)


def byte_reader(plan: Plan, progress: Progress) -> Callable[[str], None]:
    """Turns the quantizer's line per tensor into bytes of the source done."""
    sizes = {entry.tensor.name: entry.tensor.size_bytes for entry in plan.tensors}
    total = sum(sizes.values())
    done = 0

    def read(line: str) -> None:
        nonlocal done
        if found := _TENSOR_LINE.match(line):
            done += sizes.get(found[3], 0)
            progress(done, total)

    return read


def verify(path: Path, plan: Plan) -> None:
    """Read the written file back; `ToolError` names the first thing that is not as planned."""
    written = read_header(path)
    if written.by_name.keys() != {entry.tensor.name for entry in plan.tensors}:
        raise ToolError(f"{TOOL} wrote other tensors than it was given")
    for entry in plan.tensors:
        found = written.by_name[entry.tensor.name].type
        if found != entry.type:
            raise ToolError(f"{TOOL} made {entry.tensor.name} {found}, expected {entry.type}")
    if written.size_bytes != plan.file_bytes:
        raise ToolError(f"{TOOL} wrote {written.size_bytes} bytes, expected {plan.file_bytes}")
