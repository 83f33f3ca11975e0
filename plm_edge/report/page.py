"""What a report consists of, before anybody draws or writes it: sections of figures and tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells as text; columns from `numbers_from` on are numbers and stand right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1
    caption: str = ""


@dataclass(frozen=True)
class Point:
    """A measured thing on a plane; `low` and `high` are the interval of `y`."""

    label: str
    x: float
    y: float
    low: float
    high: float
    is_best: bool = False


@dataclass(frozen=True)
class Points:
    """A scatter of few named points, the best of which are joined by a line."""

    x_label: str
    y_label: str
    points: tuple[Point, ...]
    is_log: bool = False


@dataclass(frozen=True)
class Series:
    """One line: values over a common axis, each with an interval."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Lines:
    """Lines over a common axis."""

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    top: float | None = None


@dataclass(frozen=True)
class Map:
    """A table of numbers as shades: rows by columns, None where there is nothing."""

    x_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    unit: str


@dataclass(frozen=True)
class Dot:
    """One value with its interval, and what one gets without a model."""

    label: str
    value: float
    low: float
    high: float
    baseline: float | None = None


@dataclass(frozen=True)
class Dots:
    """Values with intervals, one below the other."""

    x_label: str
    dots: tuple[Dot, ...]
    left: float | None = None
    right: float | None = None


Chart = Points | Lines | Map | Dots


@dataclass(frozen=True)
class Figure:
    """A chart with what to read from it, and the commands its numbers come from."""

    title: str
    chart: Chart
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One question of a report; `refused` says what was not put side by side, and why."""

    id: str
    title: str
    lead: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    refused: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    def all_commands(self) -> tuple[str, ...]:
        """Those of the section and of its figures, each once."""
        every = [*(word for figure in self.figures for word in figure.commands), *self.commands]
        return tuple(dict.fromkeys(every))


@dataclass(frozen=True)
class Report:
    """A whole page."""

    title: str
    sources: tuple[str, ...]
    sections: tuple[Section, ...]
    skipped: tuple[str, ...] = ()
    has_random_weights: bool = False

    def commands(self) -> tuple[str, ...]:
        """Every command that made a number of this page, each once."""
        every = [command for section in self.sections for command in section.all_commands()]
        return tuple(dict.fromkeys(every))
