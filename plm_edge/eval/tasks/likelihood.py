"""Kinds of task in which the model writes nothing: how probable it finds given texts."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence

from plm_edge.eval.tasks.items import Choice, Pair
from plm_edge.eval.tasks.model import Answered, Prompt, Scores, TaskModel
from plm_edge.eval.tasks.spec import TaskSpec


def ask_choice(spec: TaskSpec, item: Choice, model: TaskModel) -> Answered:
    """Which answer is most probable; `normalized` divides by its length, so that long answers are
    not at a disadvantage (in bytes, without the blank before it, as lm-evaluation-harness does)."""
    texts = spec.continuations(item)
    found = model.likelihoods(Prompt(spec.ask(item), spec.chat, spec.system), texts)
    lengths = [max(1, len(text.strip().encode())) for text in texts]
    per_byte = [v / length for v, length in zip(found.values, lengths, strict=True)]
    rivals = _rivals(item)
    scores = {
        "accuracy": float(_best(found.values, rivals) == rivals[0]),
        "normalized": float(_best(per_byte, rivals) == rivals[0]),
    }
    if len(item.correct) > 1:
        scores["true_mass"] = _mass(found.values, item.correct)
    chosen = max(range(len(texts)), key=lambda index: found.values[index])
    return Answered(scores, item.choices[chosen], found.timing)


def _rivals(item: Choice) -> list[int]:
    """The first true answer, and all that are wrong: several true ones would share the votes."""
    wrong = [index for index in range(len(item.choices)) if index not in item.correct]
    return [item.correct[0], *wrong]


def _best(values: Sequence[float], among: Sequence[int]) -> int:
    return max(among, key=lambda index: values[index])


def _mass(values: Sequence[float], correct: Sequence[int]) -> float:
    """The true answers' share of the probability of all answers given (TruthfulQA's MC2)."""
    top = max(values)
    shares = [math.exp(value - top) for value in values]
    return sum(shares[index] for index in correct) / sum(shares)


def choice_baselines(items: Sequence[Choice]) -> Scores:
    """A coin, the most frequent place, the longest and the shortest answer, most words shared."""
    place = Counter(item.correct[0] for item in items).most_common(1)[0][0]
    return {
        "random": statistics.fmean(1 / len(_rivals(item)) for item in items),
        "most common place": _mean([place == item.correct[0] for item in items]),
        "longest": _mean(
            [_best([*map(len, i.choices)], _rivals(i)) == i.correct[0] for i in items]
        ),
        "shortest": _mean(
            [_best([-len(c) for c in i.choices], _rivals(i)) == i.correct[0] for i in items]
        ),
        "most overlap": _mean([_nearest_choice(item) == item.correct[0] for item in items]),
    }


def _nearest_choice(item: Choice) -> int:
    asked = _words(f"{item.context} {item.question}")
    return _best([_overlap(asked, choice) for choice in item.choices], _rivals(item)[::-1])


def ask_pair(spec: TaskSpec, item: Pair, model: TaskModel) -> Answered:
    """Which of two sentences is more probable; 0.5 on average would be no preference."""
    texts = [f" {item.stereotype}", f" {item.counterpart}"]
    found = model.likelihoods(Prompt(spec.ask(item), spec.chat, spec.system), texts)
    difference = found.values[0] - found.values[1]
    preferred = 0.5 if difference == 0 else float(difference > 0)
    return Answered({"stereotype": preferred}, texts[difference <= 0].strip(), found.timing)


def nearest(question: str, texts: Sequence[str]) -> str:
    """The text that shares most words with the question: retrieval at its simplest."""
    asked = _words(question)
    return max(texts, key=lambda text: _overlap(asked, text))


def _overlap(words: set[str], text: str) -> float:
    found = _words(text)
    return len(words & found) / math.sqrt(len(found)) if found else 0.0


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _mean(hits: Sequence[bool]) -> float:
    return statistics.fmean(map(float, hits))
