"""The same tables as Markdown: every cell there, nothing that breaks a table or becomes markup."""

from __future__ import annotations

from plm_edge.report import markdown
from plm_edge.report.page import Report, Section, Table
from tests.report.test_html import whole


def test_every_cell_of_every_table_is_there() -> None:
    report = whole()
    text = markdown.render(report)
    for section in report.sections:
        assert f"## {section.title}" in text
        for table in section.tables:
            for row in table.rows:
                assert markdown._row(row) in text


def test_cells_cannot_break_out() -> None:
    table = Table(("a", "b"), (("x|y", "<b>*1*</b>\nnext"),))
    report = Report("t", (), (Section("s", "S", "lead", tables=(table,), commands=("a `b` c",)),))
    text = markdown.render(report)
    assert "| x\\|y | \\<b\\>\\*1\\*\\</b\\> next |" in text
    assert "1. `` a `b` c ``" in text
    assert "| --- | ---: |" in text
