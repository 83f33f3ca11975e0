"""Draws the charts of a report with matplotlib, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from plm_edge.errors import MissingToolError
from plm_edge.report import theme
from plm_edge.report.page import Chart, Dots, Figure, Lines, Map, Point, Points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches at 72 units each. About as wide as a phone's screen, so that text stays readable there.
WIDTH, HEIGHT = 5.2, 3.4
# More names than these write over each other: numbers then, and a list below.
FEW_POINTS = 4
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "plm-edge",
    "font.size": 11,
    "text.color": theme.TEXT,
    "axes.edgecolor": theme.LINE,
    "axes.labelcolor": theme.TEXT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": theme.LINE,
    "grid.linewidth": 0.6,
    "xtick.color": theme.TEXT,
    "ytick.color": theme.TEXT,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2,
    "text.parse_math": False,
}


def require() -> None:
    """Raise `MissingToolError` unless charts can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingToolError(
            "charts need the package matplotlib", hint="pip install 'plm-edge[report]'"
        ) from error


def svg(figure: Figure) -> str:
    """One `<svg>` element; it scales to the width it is given."""
    require()
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    with rc_context(_SETTINGS):
        drawing = Drawing(figsize=(WIDTH, _height(figure.chart)), layout="constrained")
        FigureCanvasSVG(drawing)
        _DRAW[type(figure.chart)](drawing.subplots(), figure.chart)
        out = io.StringIO()
        drawing.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _inline(out.getvalue(), figure.title)


def _height(chart: Chart) -> float:
    if isinstance(chart, Dots):
        return 1.0 + 0.28 * len(chart.dots)
    if isinstance(chart, Map):
        return 1.3 + 0.32 * len(chart.rows)
    if isinstance(chart, Lines):
        return HEIGHT + 0.23 * len(chart.series)
    if len(chart.points) <= FEW_POINTS:
        return HEIGHT
    return HEIGHT + 0.24 * -(-len(chart.points) // _name_columns(chart))


def _inline(text: str, title: str) -> str:
    """From a file to an element: no prologue, no fixed size, a name for those who cannot see it."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    body = re.sub(r"'DejaVu Sans'[^;\"]*", theme.FONT, body)
    name = f'<svg role="img" aria-label={quoteattr(title)}'
    body = body.replace("<svg", name, 1).replace(">", f"><title>{escape(title)}</title>", 1)
    return theme.applied(body).strip()


def _points(axes: Axes, chart: Points) -> None:
    best = sorted((p for p in chart.points if p.is_best), key=lambda point: point.x)
    axes.plot([p.x for p in best], [p.y for p in best], color=theme.LINE, zorder=1)
    for number, point in enumerate(sorted(chart.points, key=lambda point: point.x)):
        face = theme.series(0) if point.is_best else theme.GROUND
        axes.errorbar(
            point.x,
            point.y,
            yerr=[[max(0, point.y - point.low)], [max(0, point.high - point.y)]],
            color=theme.series(0),
            marker="o",
            markerfacecolor=face,
            capsize=3,
            zorder=2,
        )
        # Above and below in turn, so that neighbours do not write over each other.
        above = number % 2 == 0
        axes.annotate(
            _point_name(number, point, chart),
            (point.x, point.y),
            xytext=(6, 6 if above else -6),
            textcoords="offset points",
            va="bottom" if above else "top",
            fontsize=9,
        )
    if chart.is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        values = [point.y for point in chart.points]
        # Only within one decade: there the whole powers may be one tick or none.
        is_narrow = max(values) < 10 * min(values)
        axes.yaxis.set_minor_formatter("{x:g}" if is_narrow else "")
    axes.margins(x=0.25 if len(chart.points) <= FEW_POINTS else 0.05, y=0.2)
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    if len(chart.points) > FEW_POINTS:
        _point_legend(axes, chart)


def _point_name(number: int, point: Point, chart: Points) -> str:
    return point.label if len(chart.points) <= FEW_POINTS else str(number + 1)


def _point_legend(axes: Axes, chart: Points) -> None:
    """The names of numbered points, below the chart."""
    from matplotlib.lines import Line2D

    points = sorted(chart.points, key=lambda point: point.x)
    labels = [f"{number}  {point.label}" for number, point in enumerate(points, start=1)]
    handles = [Line2D([], [], linestyle="none", label=label) for label in labels]
    axes.figure.legend(
        handles=handles, loc="outside lower left", ncols=_name_columns(chart), handlelength=0
    )


def _name_columns(chart: Points) -> int:
    """Two columns of names where the longest leaves room for them."""
    return 2 if max(len(point.label) for point in chart.points) <= 26 else 1


def _lines(axes: Axes, chart: Lines) -> None:
    for number, series in enumerate(chart.series):
        errors = None
        if series.low:
            below = [y - low for y, low in zip(series.y, series.low, strict=True)]
            above = [high - y for y, high in zip(series.y, series.high, strict=True)]
            errors = [below, above]
        axes.errorbar(
            series.x,
            series.y,
            yerr=errors,
            label=series.label,
            color=theme.series(number),
            linestyle=theme.dash(number),
            marker="o",
            markersize=5,
            capsize=3,
        )
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    axes.set_ylim(bottom=0, top=chart.top)
    axes.figure.legend(loc="outside lower left", ncols=1)


def _map(axes: Axes, chart: Map) -> None:
    """Shades of one colour: opacity works on any ground."""
    from matplotlib.patches import Rectangle

    top = max((v for row in chart.values for v in row if v is not None), default=1.0)
    has_room = len(chart.columns) <= 14
    for y, row in enumerate(chart.values):
        for x, value in enumerate(row):
            if value is None:
                continue
            shade = 0.12 + 0.7 * value / top
            axes.add_patch(Rectangle((x, y), 0.94, 0.9, color=theme.series(0), alpha=shade, lw=0))
            if has_room:
                axes.text(x + 0.47, y + 0.45, f"{value:.3g}", ha="center", va="center", fontsize=9)
    axes.set(xlim=(0, len(chart.columns)), ylim=(len(chart.rows), 0), xlabel=chart.x_label)
    step = 1 if has_room else 4
    places = range(0, len(chart.columns), step)
    axes.set_xticks([x + 0.47 for x in places], [chart.columns[x] for x in places])
    axes.set_yticks([y + 0.45 for y in range(len(chart.rows))], chart.rows)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if not has_room:
        _map_legend(axes, chart, top)


def _map_legend(axes: Axes, chart: Map, top: float) -> None:
    from matplotlib.patches import Patch

    levels = sorted({round(v, 2) for row in chart.values for v in row if v is not None})
    shown = levels if len(levels) <= 6 else [levels[0], levels[len(levels) // 2], levels[-1]]
    handles = [
        Patch(color=theme.series(0), alpha=0.12 + 0.7 * v / top, label=f"{v:g}", lw=0)
        for v in shown
    ]
    axes.figure.legend(
        handles=handles, loc="outside lower left", ncols=len(handles), title=chart.unit
    )


def _dots(axes: Axes, chart: Dots) -> None:
    for place, dot in enumerate(chart.dots):
        axes.errorbar(
            dot.value,
            place,
            xerr=[[max(0, dot.value - dot.low)], [max(0, dot.high - dot.value)]],
            color=theme.series(0),
            marker="o",
            capsize=3,
        )
        if dot.baseline is not None:
            axes.plot(dot.baseline, place, marker="|", markersize=13, color=theme.series(1))
    axes.set_yticks(range(len(chart.dots)), [dot.label for dot in chart.dots])
    axes.set_ylim(len(chart.dots) - 0.5, -0.5)
    if chart.left is not None and chart.right is not None:
        margin = 0.03 * (chart.right - chart.left)  # a dot on the edge would be cut in half
        axes.set_xlim(chart.left - margin, chart.right + margin)
    elif chart.left is not None:
        axes.set_xlim(left=chart.left)
    axes.set_xlabel(chart.x_label)
    axes.grid(visible=False, axis="y")


_DRAW: dict[type[Any], Callable[[Any, Any], None]] = {
    Points: _points,
    Lines: _lines,
    Map: _map,
    Dots: _dots,
}
