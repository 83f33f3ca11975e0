"""What `plm-edge imatrix` does: the model reads text with a hook on its graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    from collections.abc import Iterator, Mapping, Sequence

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


@dataclass(frozen=True)
class Reading:
    """A model and the windows of a text that it shall read under the hook."""

    header: GgufHeader
    lib_dir: Path
    text: Text
    windows: Windows
    options: Options

    def of(self, numbers: Sequence[int]) -> Reading:
        """The same with some of the windows."""
        tokens = tuple(self.windows.tokens[number] for number in numbers)
        return replace(self, windows=replace(self.windows, tokens=tokens))


def collect(request: Request) -> Imatrix:
    """Measure and write."""
    read, header = text.read(request.text), read_header(request.file)
    engine = ready_engine()
    with Vocabulary(header, engine.lib_dir) as vocabulary:
        windows = text.windows(read, vocabulary, request.context, request.windows)
    options = Options(request.context, request.threads or default_threads())
    reading = Reading(header, engine.lib_dir, read, windows, options)
    seen = collecting.collector(header, engine.lib_dir)
    for _ in _read(reading, seen):
        pass
    made = _gathered(reading, seen)
    imatrix.write(request.output, made)
    return made


def collect_kept(reading: Reading, path: Path) -> None:
    """Measure and write; what each window gave lies beside `path` until all have been read."""
    places = [path.with_suffix(f".{i:04}.gguf") for i in range(len(reading.windows.tokens))]
    left = [number for number, place in enumerate(places) if not place.exists()]
    if left:
        seen = collecting.collector(reading.header, reading.lib_dir)
        for place in _read(reading.of(left), seen):
            imatrix.write(places[left[place]], _gathered(reading.of([left[place]]), seen))
            seen.clear()
    imatrix.write(path, imatrix.summed([imatrix.read(place) for place in places], path))
    for done in places:
        done.unlink()


def _read(reading: Reading, seen: Collector) -> Iterator[int]:
    """Let the model read; the number of each window as soon as it has been."""
    name, count = reading.header.path.name, len(reading.windows.tokens)
    with (
        console.step_progress(f"reading with {name}") as progress,
        EvalModel(reading.header, reading.lib_dir, reading.options, seen) as model,
    ):
        for number, window in enumerate(reading.windows.tokens):
            for _ in model.logits(window, 0):
                pass  # what the head is fed is seen for every token whose logits are wanted
            seen.check()
            yield number
            progress(number + 1, count)


def _gathered(reading: Reading, seen: Collector) -> Imatrix:
    """What was seen, with what it was seen on."""
    origin = Origin(
        weights=imatrix.weights_id(reading.header),
        layout=reading.header.layout,
        texts=((reading.text.path.name, reading.text.sha256),),
        context=reading.windows.context,
        windows=len(reading.windows.tokens),
    )
    return Imatrix(origin, _entries(seen.columns), _entries(seen.neurons))


def _entries(found: Mapping[str, Sums]) -> dict[str, Entry]:
    return {name: Entry(sums.values.astype("f4"), sums.count) for name, sums in found.items()}
