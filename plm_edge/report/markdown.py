"""The tables of a report as Markdown, for places that show no HTML."""

from __future__ import annotations

import re

from plm_edge.report.page import Report, Section, Table

# What Markdown, or the HTML in it, would take for its own.
_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


def render(report: Report) -> str:
    """The whole report; figures are left out, their numbers stand in the tables."""
    parts = [f"# {_text(report.title)}\n", f"From {_text(', '.join(report.sources))}.\n"]
    if report.has_random_weights:
        parts.append("Some of these models have random weights: their answers are noise.\n")
    parts += [f"- {_text(line)}\n" for line in report.skipped]
    numbers = {command: number for number, command in enumerate(report.commands(), start=1)}
    parts += [_section(section, numbers) for section in report.sections]
    lines = [f"{number}. {_code(command)}" for command, number in numbers.items()]
    parts.append("## Commands\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _section(section: Section, numbers: dict[str, int]) -> str:
    parts = [f"## {section.title}\n", f"{_text(section.lead)}\n"]
    parts += [_table(table) for table in section.tables]
    if section.refused:
        parts.append("\n".join(f"- {_text(line)}" for line in section.refused) + "\n")
    if commands := section.all_commands():
        parts.append("Made by " + ", ".join(str(numbers[command]) for command in commands) + ".\n")
    return "\n".join(parts)


def _table(table: Table) -> str:
    sides = ["---" if i < table.numbers_from else "---:" for i in range(len(table.columns))]
    lines = [f"{_text(table.caption)}\n"] if table.caption else []
    lines += [_row(table.columns), "| " + " | ".join(sides) + " |"]
    lines += [_row(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _text(text: str) -> str:
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _code(command: str) -> str:
    """A code span whose fence is longer than any run of backticks in it."""
    runs = [len(run) for run in re.findall(r"`+", command)]
    fence = "`" * (max(runs, default=0) + 1)
    pad = " " if runs else ""
    return f"{fence}{pad}{' '.join(command.split())}{pad}{fence}"
