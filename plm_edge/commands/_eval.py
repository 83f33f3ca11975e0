"""What `plm-edge eval` does: plan, run every file, show results and their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge import console
from plm_edge import results as result_files
from plm_edge.commands import _record
from plm_edge.commands._bench_show import wide_stdout
from plm_edge.commands._ready_engine import ready_engine
from plm_edge.errors import InputError, UsageError
from plm_edge.eval import compare, record, report, text
from plm_edge.eval.model import CACHE_TYPES, Options
from plm_edge.eval.record import Record
from plm_edge.eval.session import Model, Session
from plm_edge.gguf_header import GgufHeader, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from plm_edge.eval.measure import Outcome
    from plm_edge.eval.text import Windows


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    files: tuple[Path, ...]
    text: Path
    reference: Path | None
    options: Options
    windows: int | None
    top: int
    results: Path | None


def default_threads() -> int:
    """One per fast core."""
    from plm_edge.bench import machine

    return machine.usable_cores()


def cache_type(name: str) -> str:
    """A cache type the engine has."""
    if name not in CACHE_TYPES:
        raise UsageError(f"--cache-type {name}: expected one of {', '.join(CACHE_TYPES)}")
    return name


def say_plan(request: Request, as_json: bool) -> None:
    """What would be read and computed."""
    read = text.read(request.text)
    headers = [read_header(path) for path in (*request.files, *_some(request.reference))]
    for header in headers:
        header.require_architecture()
    plan = {
        "files": [str(path) for path in request.files],
        "text": str(request.text),
        "text_sha256": read.sha256,
        "context": request.options.context,
        "reference": str(request.reference) if request.reference else None,
        "results": str(request.results or result_files.default_path()),
    }
    if as_json:
        console.print_json(plan)
        return
    for name, value in plan.items():
        print(f"{name:<12} {value}")


def run(request: Request) -> list[Record]:
    """Evaluate every file; each result is appended to the results file when it is there."""
    read = text.read(request.text)
    headers = [read_header(path) for path in request.files]
    engine = ready_engine()
    session = Session(
        engine.lib_dir, engine.manifest.key, read, request.options, request.windows, request.top
    )
    models = [_model(header) for header in headers]
    windows = session.windows(headers[0])
    base = _model(read_header(request.reference)) if request.reference else None
    rows = _reference(session, base, windows) if base else None
    return [_measure(request, session, model, base, rows) for model in models]


def _some(path: Path | None) -> tuple[Path, ...]:
    return () if path is None else (path,)


def _model(header: GgufHeader) -> Model:
    header.require_architecture()
    return Model(header, _record.sha256(header.path))


def _reference(session: Session, base: Model, windows: Windows) -> NDArray[Any]:
    with console.step_progress(f"reference {base.header.path.name}") as progress:
        return session.reference(base, windows, progress)


def _measure(
    request: Request,
    session: Session,
    model: Model,
    base: Model | None,
    rows: NDArray[Any] | None,
) -> Record:
    windows = session.windows(model.header)
    if base is not None and windows.tokens != session.windows(base.header).tokens:
        raise InputError(
            f"{model.header.path}: has another vocabulary than {base.header.path.name}"
        )
    with console.step_progress(f"judging {model.header.path.name}") as progress:
        outcome = session.measure(model, windows, rows, progress)
    read = session.text
    source = _record.Source(compare.KIND, read.path.name, read.sha256, windows.context)
    header = _record.make_header(source, model.header, model.sha256, session.engine)
    made = Record(header, _values(outcome, session, model, base))
    record.write(request.results or result_files.default_path(), made)
    return made


def _values(outcome: Outcome, session: Session, model: Model, base: Model | None) -> dict[str, Any]:
    tensors = model.header.tensors
    bits = 8 * sum(one.size_bytes for one in tensors) / sum(one.values for one in tensors)
    return {
        **outcome.values(),
        "bits_per_weight": round(bits, 4),
        "cache_type": session.options.cache_type,
        "threads": session.options.threads,
        "reference": base.header.path.name if base else None,
        "reference_sha256": base.sha256 if base else None,
        "top": session.top,
    }


def show(records: Sequence[Record], as_json: bool) -> None:
    """The results of one run and their differences from the first."""
    if as_json:
        console.print_json(report.rows(records))
        return
    for line in report.headings(records):
        print(line)
    out = wide_stdout()
    out.print(report.table(records))
    differences, refused = report.difference_table(records)
    if differences is not None:
        out.print(differences)
    for line in refused:
        console.note(line)


def show_stored(path: Path, as_json: bool) -> None:
    """The newest results and, of the others, only why they are not beside them."""
    found = record.read(path, compare.KIND)
    for line in found.skipped:
        console.warn(line)
    if not found.records:
        raise InputError(f"{path}: holds no evaluations", hint="plm-edge eval FILE --text TEXT")
    newest = compare.newest(found.records)
    last = newest[-1]
    beside = [one for one in newest if not isinstance(compare.compare(one, last), compare.Refused)]
    show(beside, as_json)
    for one in newest:
        why = compare.compare(one, last)
        if isinstance(why, compare.Refused):
            console.note(f"{one.header.model}: not compared: {'; '.join(why.reasons)}")
