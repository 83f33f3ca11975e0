"""Instructions per token: the model that stands in, the table, and counting in a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.convert.synth import SHAPES
from tests.devices import instructions, page
from tests.devices.instructions import MARKS, Row

ROWS = [Row("generation 8", 1024, 3.0e7, 6.0e7)]


def test_the_stand_in_keeps_every_layers_shape() -> None:
    cut, whole = instructions.shape(), SHAPES["plm-1.8b"]

    assert (cut.hidden_size, cut.intermediate_size) == (whole.hidden_size, whole.intermediate_size)
    share = cut.vocab_size / cut.num_hidden_layers
    assert share == pytest.approx(whole.vocab_size / whole.num_hidden_layers, rel=0.001)


def test_the_table_tells_ours_as_a_share_of_stocks() -> None:
    assert "| generation 8 | 1024 | 30,000,000 | 60,000,000 | 0.50 |" in instructions.text_of(ROWS)


def test_the_table_replaces_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "page.md"
    target.write_text(f"above\n{MARKS[0]}old\n{MARKS[1]}below\n")
    for _ in range(2):
        instructions.write_page(target, "| new |")

    assert target.read_text() == f"above\n{MARKS[0]}| new |\n{MARKS[1]}below\n"


def test_the_page_has_a_place_for_it() -> None:
    text = page.path_of("arm-instructions").read_text(encoding="utf-8")

    assert [text.count(mark) for mark in MARKS] == [1, 1]
