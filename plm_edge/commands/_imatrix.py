"""What `plm-edge imatrix` does: the model reads text with a hook on its graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge import console
from plm_edge.commands._eval import default_threads
from plm_edge.commands._ready_engine import ready_engine
from plm_edge.eval import collect as collecting
from plm_edge.eval import text
from plm_edge.eval.model import EvalModel, Options
from plm_edge.eval.vocabulary import Vocabulary
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.quantize import imatrix
from plm_edge.quantize.imatrix import Entry, Imatrix, Origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plm_edge.eval.collect import Collector, Sums
    from plm_edge.eval.text import Text, Windows


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    file: Path
    text: Path
    output: Path
    context: int
    windows: int | None
    threads: int


def plan(request: Request) -> str:
    """One line on what would be done, its inputs checked."""
    read = text.read(request.text)
    read_header(request.file).require_architecture()
    return (
        f"would read {request.text} ({len(read.content):,} letters) with {request.file} in "
        f"windows of {request.context} tokens and write {request.output}"
    )


def collect(request: Request) -> Imatrix:
    """Measure and write."""
    read, header = text.read(request.text), read_header(request.file)
    engine = ready_engine()
    with Vocabulary(header, engine.lib_dir) as vocabulary:
        windows = text.windows(read, vocabulary, request.context, request.windows)
    options = Options(request.context, request.threads or default_threads())
    seen = run(header, engine.lib_dir, windows, options)
    made = gathered(header, seen, read, windows)
    imatrix.write(request.output, made)
    return made


def run(header: GgufHeader, lib_dir: Path, windows: Windows, options: Options) -> Collector:
    """Let the model read all windows under the hook."""
    seen = collecting.collector(header, lib_dir)
    with (
        console.step_progress(f"reading with {header.path.name}") as progress,
        EvalModel(header, lib_dir, options, seen) as model,
    ):
        for number, window in enumerate(windows.tokens):
            for _ in model.logits(window, 0):
                pass  # what the head is fed is seen for every token whose logits are wanted
            seen.check()
            progress(number + 1, len(windows.tokens))
    return seen


def gathered(header: GgufHeader, seen: Collector, read: Text, windows: Windows) -> Imatrix:
    """What was seen, with what it was seen on."""
    origin = Origin(
        weights=imatrix.weights_id(header),
        layout=header.layout,
        texts=((read.path.name, read.sha256),),
        context=windows.context,
        windows=len(windows.tokens),
    )
    return Imatrix(origin, _entries(seen.columns), _entries(seen.neurons))


def _entries(found: Mapping[str, Sums]) -> dict[str, Entry]:
    return {name: Entry(sums.values.astype("f4"), sums.count) for name, sums in found.items()}
