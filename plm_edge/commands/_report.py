"""What `plm-edge report` does: inputs read, what is broken said, the page written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plm_edge import console
from plm_edge.errors import UsageError
from plm_edge.paths import write_text_atomic
from plm_edge.report import assemble, inputs
from plm_edge.report.page import Report


def read(paths: Sequence[Path], title: str) -> Report:
    """The report of these files; lines that could not be read are said."""
    found = inputs.read(paths)
    for line in found.skipped:
        console.warn(line)
    return assemble.report(found, title)


def say(report: Report, output: Path | None) -> None:
    """What the page would hold."""
    for section in report.sections:
        rows = sum(len(table.rows) for table in section.tables)
        print(f"{section.title}: {len(section.figures)} figures, {rows} rows")
    if output is not None:
        print(f"would write {output}")


def write_html(report: Report, output: Path | None) -> None:
    """The page, to a file."""
    from plm_edge.report import html

    if output is None:
        raise UsageError("a page needs a file", hint="plm-edge report RESULTS -o report.html")
    write_text_atomic(output, html.render(report))
    print(output)


def write_markdown(report: Report, output: Path | None) -> None:
    """The tables, to a file or stdout."""
    from plm_edge.report import markdown

    text = markdown.render(report)
    if output is None:
        print(text, end="")
        return
    write_text_atomic(output, text)
    print(output)
