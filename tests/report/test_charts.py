"""Charts: well-formed SVG in the page's colours, every label in it, nothing that reaches out."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest

from plm_edge.errors import MissingToolError
from plm_edge.report import charts
from plm_edge.report.page import Chart, Dot, Dots, Figure, Lines, Map, Point, Points, Series

SVG = "{http://www.w3.org/2000/svg}"
WIDE = Map(
    "layer",
    ("ffn_up",),
    tuple(map(str, range(32))),
    ((*(4.5 if n % 2 else 8.5 for n in range(31)), None),),
    "bits",
)
MANY = Points(
    "size", "KL", tuple(Point(f"a<b {n}", n, 0.1 / n, 0.05 / n, 0.2 / n) for n in range(1, 9)), True
)
CHARTS: tuple[Chart, ...] = (
    Points(
        "size", "KL", (Point("a<b", 1, 0.1, 0.05, 0.2, True), Point("c", 2, 0.2, 0.1, 0.3)), True
    ),
    Lines(
        "depth",
        "tok/s",
        (Series("a<b", (0, 9), (4, 3), (3, 2), (5, 4)), Series("c", (0, 9), (2, 1))),
    ),
    Map("layer", ("a<b", "c"), ("0", "1"), ((4.5, None), (8.5, 2.0)), "bits"),
    WIDE,
    MANY,
    Dots("score", (Dot("a<b", 0.5, 0.4, 0.6, 0.25), Dot("c", 0.1, 0.1, 0.1)), 0, 1),
)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: type(chart).__name__)
def test_a_chart_is_one_svg_that_the_page_colours(chart: Chart) -> None:
    text = charts.svg(Figure('Title with "quotes" & <marks>', chart))
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert "viewBox" in root.attrib and "width" not in root.attrib
    title = root.find(f"{SVG}title")
    assert title is not None and title.text == 'Title with "quotes" & <marks>'
    words = " ".join("".join(node.itertext()) for node in root.iter(f"{SVG}text"))
    assert chart is WIDE or "a<b" in words
    assert "var(--s1)" in text and "var(--ink)" in text
    assert "#0102" not in text
    assert "mathdefault" not in words


def test_many_points_are_numbered_and_named_below() -> None:
    root = ElementTree.fromstring(charts.svg(Figure("t", MANY)))
    words = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
    assert {str(n) for n in range(1, 9)} <= set(words)
    assert {f"{n}  a<b {n}" for n in range(1, 9)} <= set(words)


def test_the_same_figure_is_drawn_the_same() -> None:
    figure = Figure("t", CHARTS[0])
    assert charts.svg(figure) == charts.svg(figure)


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingToolError) as caught:
        charts.svg(Figure("t", CHARTS[0]))
    assert caught.value.hint == "pip install 'plm-edge[report]'"
