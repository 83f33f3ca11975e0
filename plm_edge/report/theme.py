"""Colours that the page decides: drawn as marks nobody else uses, then replaced by CSS variables.

matplotlib writes plain colours. Each mark below is one of them, and stands for a variable that the
page sets for light and for dark; so one drawing serves both, without any script.
"""

from __future__ import annotations

TEXT, LINE, GROUND = "#010203", "#010204", "#010205"
SERIES = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")

_VARIABLES = {
    TEXT: "var(--ink)",
    LINE: "var(--rule)",
    GROUND: "var(--paper)",
    **{mark: f"var(--s{number})" for number, mark in enumerate(SERIES, start=1)},
}
FONT = "system-ui, sans-serif"


def series(number: int) -> str:
    """The colour of a line; they repeat after the sixth, where dashes tell them apart."""
    return SERIES[number % len(SERIES)]


def dash(number: int) -> str:
    """The line's style: whole for the first six."""
    return ("-", "--", ":", "-.")[number // len(SERIES) % 4]


def applied(svg: str) -> str:
    """The drawing with the page's variables in place of the marks."""
    for mark, variable in _VARIABLES.items():
        svg = svg.replace(mark, variable)
    return svg
