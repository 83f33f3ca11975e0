"""What `plm-edge bench` prints: the plan before, the tables after, stored rows read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plm_edge import console, shell
from plm_edge.bench import compare, device_table, table
from plm_edge.bench import rows as bench_rows
from plm_edge.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from plm_edge.bench.plan import Pace, Rounds
    from plm_edge.bench.rows import Row

# Rich takes 80 columns where nobody has a screen; a table in a file may be as wide as it needs.
FILE_WIDTH = 160


def plan(planned: Mapping[str, Rounds], pace: Pace, as_json: bool) -> None:
    """Every process that would run, and about how long all of them take."""
    jobs = [(name, job) for name, rounds in planned.items() for job in rounds.jobs()]
    seconds = sum(pace.seconds(job) for _, job in jobs)
    lines = [
        {
            "case": name,
            "engine": job.side.variant,
            "round": job.round,
            "command": shell.quote(["llama-bench", *job.arguments()]),
        }
        for name, job in jobs
    ]
    if as_json:
        console.print_json({"jobs": lines, "seconds": round(seconds)})
        return
    for line in lines:
        print(f"{line['engine']:<6} {line['command']}")
    print(f"would run {len(lines)} processes, about {_duration(seconds)}")


def announce(planned: Mapping[str, Rounds], pace: Pace) -> None:
    """Say what begins and how long it may take."""
    jobs = [job for rounds in planned.values() for job in rounds.jobs()]
    seconds = sum(pace.seconds(job) for job in jobs)
    console.note(f"{len(jobs)} runs of llama-bench, about {_duration(seconds)}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def wide_stdout() -> Console:
    """The console for tables: a screen's own width, or wide enough for every column."""
    out = console.stdout()
    if not out.is_terminal:
        out.width = FILE_WIDTH
    return out


def rows(found: Sequence[Row], as_json: bool, earlier: Sequence[Row] = ()) -> None:
    """The tables of one run."""
    if as_json:
        console.print_json({"about": _about(found), "rows": table.summary_rows(found)})
        return
    for line in table.headings(found):
        print(line)
    out = wide_stdout()
    if any(row.samples for row in found):
        out.print(table.speed_table(found, earlier))
    if device_table.has_conditions(found):
        out.print(device_table.conditions_table(found))
    if any(row.memory for row in found):
        out.print(table.memory_table(found))


def _about(found: Sequence[Row]) -> dict[str, Any]:
    first = found[0]
    return {
        "run": first.run,
        "machine": first.machine.label,
        "bandwidth_gigabytes_per_second": first.machine.bandwidth_gigabytes_per_second,
        "headings": table.headings(found),
    }


def stored(path: Path, as_json: bool) -> None:
    """The last run of a results file, compared with the ones before that may be."""
    read = bench_rows.read(path)
    for line in read.skipped:
        console.warn(line)
    if not read.rows:
        raise InputError(f"{path}: holds no benchmark rows", hint="plm-edge bench FILE")
    last = read.rows[-1].run
    found = [row for row in read.rows if row.run == last]
    earlier = [row for row in read.rows if row.run != last]
    rows(found, as_json, earlier)
    refused = {reason for row in found for reason in compare.history(row, earlier).refused}
    for reason in sorted(refused):
        console.note(f"not compared with earlier rows of {reason}")
    runs = list(dict.fromkeys(row.run for row in read.rows))
    console.note(f"{len(read.rows)} rows of {len(runs)} runs in {path}; the last run is shown")
