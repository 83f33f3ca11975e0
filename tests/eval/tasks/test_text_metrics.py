"""Text scores against values worked out by hand and against the package's own definition."""

from __future__ import annotations

import sys

import pytest

from plm_edge.errors import MissingToolError
from plm_edge.eval.tasks import text_metrics


def test_exact_match_ignores_case_articles_and_punctuation() -> None:
    assert text_metrics.exact_match("The  Lund.", ["Paris", "lund"]) == 1
    assert text_metrics.exact_match("Lund, Sweden", ["Lund"]) == 0
    assert text_metrics.exact_match("", ["Lund"]) == 0


def test_f1_is_that_of_shared_words() -> None:
    # 2 shared of 3 said and 2 wanted: precision 2/3, recall 1
    assert text_metrics.f1("big red dog", ["red dog"]) == pytest.approx(0.8)
    assert text_metrics.f1("dog dog", ["dog"]) == pytest.approx(2 / 3)
    assert text_metrics.f1("cat", ["dog", "a cat"]) == 1
    assert text_metrics.f1("", ["dog"]) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [("so 3 + 4 = 7.", 7), ("it costs $1,234.50", 1234.5), ("−2", -2), ("none", None), ("-5", -5)],
)
def test_the_last_number_counts(text: str, number: float | None) -> None:
    assert text_metrics.last_number(text) == number


def test_rouge_by_hand() -> None:
    # reference of 4 words, 3 of them said, 2 of these in order; 5 words said
    scores = text_metrics.rouge("cat black the sat there", "the black cat sat")
    assert scores["rouge_1"] == pytest.approx(2 * 4 / 9)
    assert scores["rouge_l"] == pytest.approx(2 * 2 / 9)


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text_metrics._scorer.cache_clear()
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(MissingToolError) as caught:
        text_metrics.require_rouge()
    assert "pip install" in (caught.value.hint or "")
