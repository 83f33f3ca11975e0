"""Numbers as people read them."""

from __future__ import annotations

import pytest

from plm_edge.report import figures_text


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (figures_text.size(1_234_567_890), "1.23 GB"),
        (figures_text.size(999), "999 B"),
        (figures_text.size(None), "–"),
        (figures_text.parameters(1_825_458_176), "1.83 B"),
        (figures_text.parameters(7_340_000), "7.34 M"),
        (figures_text.parameters(50), "50"),
        (figures_text.seconds(0.0421), "42 ms"),
        (figures_text.seconds(2.5), "2.50 s"),
        (figures_text.seconds(None), "–"),
        (figures_text.speed(123.4), "123"),
        (figures_text.speed(12.34), "12.3"),
        (figures_text.speed(1.234), "1.23"),
        (figures_text.known(None, "{:.1f}"), "–"),
        (figures_text.interval({"value": 0.5, "low": 0.4, "high": 0.6}), "0.500 (0.400 to 0.600)"),
        (figures_text.interval(None), "–"),
        (figures_text.label("m", is_random=True), "m (random weights)"),
    ],
)
def test_numbers_as_text(made: str, text: str) -> None:
    assert made == text
