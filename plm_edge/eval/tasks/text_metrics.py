"""Scores of a text against references: exact match and F1 as SQuAD defines them, numbers, ROUGE."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from plm_edge.errors import MissingToolError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?")


def normalized(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces (Rajpurkar et al. 2016)."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(text: str, references: Sequence[str]) -> float:
    """1 if the text is one of the references, normalized."""
    return float(any(normalized(text) == normalized(reference) for reference in references))


def f1(text: str, references: Sequence[str]) -> float:
    """The best F1 of shared words with any of the references."""
    return max(_word_f1(normalized(text).split(), normalized(r).split()) for r in references)


def _word_f1(words: Sequence[str], reference: Sequence[str]) -> float:
    if not words or not reference:
        return float(list(words) == list(reference))
    shared = (Counter(words) & Counter(reference)).total()
    return 2 * shared / (len(words) + len(reference))


def last_number(text: str) -> float | None:
    """The last number in a text, which is where a worked answer ends."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None


def rouge(text: str, reference: str) -> dict[str, float]:
    """ROUGE-1 and ROUGE-L, F-measures with stemming (Lin 2004)."""
    scores = _scorer()(reference, text)
    return {"rouge_1": scores["rouge1"].fmeasure, "rouge_l": scores["rougeL"].fmeasure}


def require_rouge() -> None:
    """Raise `MissingToolError` unless ROUGE can be computed: said before the first answer."""
    _scorer()


@cache
def _scorer() -> Callable[..., dict[str, Any]]:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingToolError(
            "ROUGE needs the package rouge-score", hint="pip install 'plm-edge[tasks]'"
        ) from error
    score: Callable[..., dict[str, Any]] = RougeScorer(["rouge1", "rougeL"], use_stemmer=True).score
    return score
