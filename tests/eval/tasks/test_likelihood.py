"""Multiple choice and pairs: who wins, by how much, and what needs no model."""

from __future__ import annotations

import math

import pytest

from plm_edge.eval.tasks import likelihood
from plm_edge.eval.tasks.items import Choice, Pair
from plm_edge.eval.tasks.spec import TaskSpec
from tests.eval.tasks.examples import SaidModel

SPEC = TaskSpec("d", "choice", "s", "{question}")
PAIRS = TaskSpec("d", "pair", "s", "Sentence:")


def ask(item: Choice, *values: float) -> dict[str, float]:
    return likelihood.ask_choice(SPEC, item, SaidModel(values={item.question: values})).scores


def test_the_most_probable_answer_counts() -> None:
    item = Choice("a", "?", ("xx", "yy"), (1,))
    assert ask(item, -3, -2) == {"accuracy": 1, "normalized": 1}
    assert ask(item, -2, -3) == {"accuracy": 0, "normalized": 0}


def test_normalized_does_not_punish_length() -> None:
    item = Choice("a", "?", ("no", "a long and true answer"), (1,))
    assert ask(item, -4, -10) == {"accuracy": 0, "normalized": 1}


def test_several_true_answers_share_no_votes_and_their_mass_is_told() -> None:
    item = Choice("a", "?", ("t1", "t2", "f"), (0, 1))
    scores = ask(item, math.log(0.2), math.log(0.5), math.log(0.1))
    assert scores["accuracy"] == 1  # the best true answer against the false one
    assert scores["true_mass"] == pytest.approx(7 / 8)


def test_pairs_tell_which_is_more_probable() -> None:
    item = Pair("a", "she sews", "he sews")
    for values, expected in (((-1, -2), 1.0), ((-2, -1), 0.0), ((-1, -1), 0.5)):
        found = likelihood.ask_pair(PAIRS, item, SaidModel(values={"Sentence:": values}))
        assert found.scores == {"stereotype": expected}


def test_choice_baselines_by_hand() -> None:
    items = [
        Choice("a", "a red dog", ("red dog", "x", "yyy", "zz"), (0,)),
        Choice("b", "where", ("ab", "abcdef"), (0,)),
    ]
    found = likelihood.choice_baselines(items)
    assert found["random"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["most common place"] == 1
    assert found["longest"] == 0.5
    assert found["shortest"] == 0.5
    assert found["most overlap"] == 0.5


def test_nearest_is_the_text_with_most_shared_words() -> None:
    texts = ["a cat sat", "the dog ran home", "birds"]
    assert likelihood.nearest("who ran home?", texts) == "the dog ran home"
