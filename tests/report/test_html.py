"""The page: everything escaped, nothing loaded, each number led back to its command."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from plm_edge.report import assemble, html
from plm_edge.report.inputs import Inputs
from plm_edge.report.page import Report
from tests.report.examples import elsewhere, evaluation, generation, task

HOSTILE = "<script>alert(1)</script>.gguf"


class Page(HTMLParser):
    """Collects what a page links to, names and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        table = dict(attrs)
        if tag == "a" and table.get("href"):
            self.links.add(str(table["href"]))
        if table.get("id") and "svg" not in self.open:
            self.ids.append(str(table["id"]))
        if tag not in ("meta", "path", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass


def whole() -> Report:
    bench = tuple(generation(depth, v) for depth in (0, 1024) for v in ("edge", "stock"))
    inputs = Inputs(
        sources=("r.jsonl",),
        bench=(*bench, elsewhere(bench[0])),
        evals=(evaluation("5a"), evaluation("6b", divergence=0.1, header={"model": HOSTILE})),
        tasks=(task("5a"), task("6b", header={"model": HOSTILE})),
        skipped=("r.jsonl:9: not a whole JSON line, skipped",),
    )
    return assemble.report(inputs, "A <title> & more")


def test_every_section_is_there_and_each_command_is_reached() -> None:
    report = whole()
    page = Page(html.render(report))
    ids = ["quality", "speed", "devices", "tasks", "cost"]
    assert [section.id for section in report.sections] == ids
    assert all(f"#{name}" in page.links and name in page.ids for name in [*ids, "commands"])
    assert len(page.ids) == len(set(page.ids))
    commands = {f"#command-{n}" for n in range(1, len(report.commands()) + 1)}
    assert commands <= page.links <= {f"#{name}" for name in page.ids}
    assert all(figure.commands for section in report.sections for figure in section.figures)


def test_nothing_is_loaded_or_run() -> None:
    text = html.render(whole())
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert not re.search(r"(https?:)?//\w", without_namespaces)
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_names_from_files_are_text() -> None:
    text = html.render(whole())
    assert "alert(1)" in text
    assert "<script" not in text
    assert "A &lt;title&gt; &amp; more" in text


def test_what_was_skipped_and_random_weights_are_said() -> None:
    text = html.render(whole())
    assert "r.jsonl:9: not a whole JSON line, skipped" in text
    assert "random weights: their speeds are real" in text


def test_every_colour_is_set_for_light_and_for_dark() -> None:
    text = html.render(whole())
    used = set(re.findall(r"var\((--\w+)\)", text))
    light, dark = text.split("prefers-color-scheme: dark")
    assert all(f"{name}:" in light and f"{name}:" in dark for name in used)
