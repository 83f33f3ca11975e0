"""The report as one HTML file: no script, no network, light and dark, readable on a phone."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from plm_edge import __version__
from plm_edge.report import charts
from plm_edge.report.page import Figure, Report

_TEMPLATE = Path(__file__).with_name("page.html.jinja")


def render(report: Report) -> str:
    """The whole page; `MissingToolError` without the extra that draws charts."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    numbers = {command: number for number, command in enumerate(report.commands(), start=1)}
    return template.render(report=report, draw=_draw, numbers=numbers, version=__version__)


def _draw(figure: Figure) -> Markup:
    # Safe: the drawing is ours, and matplotlib escapes the labels in it.
    return Markup(charts.svg(figure))  # noqa: S704
