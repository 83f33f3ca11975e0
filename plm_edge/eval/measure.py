"""One model on one text: perplexity, and how far it is from a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.console import Progress, no_progress
from plm_edge.eval import interval
from plm_edge.eval.distribution import Scores, Softmax, pack, score
from plm_edge.eval.interval import Interval
from plm_edge.eval.model import EvalModel
from plm_edge.eval.text import Windows


@dataclass(frozen=True)
class Outcome:
    """What was measured: means over the judged predictions of each window.

    `divergence` (KL, in nats) and `same_top` are empty without a reference.
    """

    judged: int
    surprise: tuple[float, ...]
    divergence: tuple[float, ...] = ()
    same_top: tuple[float, ...] = ()

    @property
    def tokens(self) -> int:
        """Predictions judged."""
        return self.judged * len(self.surprise)

    @property
    def perplexity(self) -> Interval:
        """The exponential of the mean surprise."""
        mean = interval.mean(self.surprise)
        return Interval(math.exp(mean.value), math.exp(mean.low), math.exp(mean.high))

    @property
    def mean_divergence(self) -> Interval | None:
        """KL divergence from the reference, in nats a token."""
        return interval.mean(self.divergence) if self.divergence else None

    @property
    def top_agreement(self) -> Interval | None:
        """The share of positions where both would have said the same token."""
        return interval.mean(self.same_top) if self.same_top else None

    def values(self) -> dict[str, Any]:
        """As a result holds them."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Outcome:
        """Back from a result."""
        names = ("surprise", "divergence", "same_top")
        return cls(int(values["judged"]), *(tuple(map(float, values[name])) for name in names))


def evaluate(
    model: EvalModel,
    windows: Windows,
    reference: NDArray[Any] | None = None,
    progress: Progress = no_progress,
) -> Outcome:
    """Run a model over a text; `reference` holds packed rows, (windows, judged positions)."""
    found: list[Scores] = []
    for number, window in enumerate(windows.tokens):
        rows = None if reference is None else reference[number]
        found.append(_window(model, window, windows.first, rows))
        progress(number + 1, len(windows.tokens))
    return Outcome(
        windows.judged,
        tuple(float(scores.surprise.mean()) for scores in found),
        *(() if reference is None else _means(found)),
    )


def _means(found: Sequence[Scores]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (
        tuple(float(scores.divergence.mean()) for scores in found),
        tuple(float(scores.same_top.mean()) for scores in found),
    )


def _window(
    model: EvalModel, window: Sequence[int], first: int, rows: NDArray[Any] | None
) -> Scores:
    parts: list[Scores] = []
    for position, softmax, came in _pieces(model, window, first):
        place = slice(position - first, position - first + len(came))
        parts.append(score(softmax, came, None if rows is None else rows[place]))
    return Scores(*(np.concatenate(column) for column in zip(*map(_columns, parts), strict=True)))


def _columns(scores: Scores) -> tuple[NDArray[Any], ...]:
    return scores.surprise, scores.divergence, scores.same_top


def _pieces(
    model: EvalModel, window: Sequence[int], first: int
) -> Iterator[tuple[int, Softmax, NDArray[np.int64]]]:
    for position, logits in model.logits(window, first):
        came = np.asarray(window[position + 1 : position + 1 + len(logits)], dtype=np.int64)
        yield position, Softmax(logits), came


def filler(
    model: EvalModel, windows: Windows, top: int, progress: Progress = no_progress
) -> Callable[[NDArray[Any]], None]:
    """What writes a model's distributions over a text into the store."""

    def fill(rows: NDArray[Any]) -> None:
        for number, window in enumerate(windows.tokens):
            for position, softmax, came in _pieces(model, window, windows.first):
                start = position - windows.first
                rows[number, start : start + len(came)] = pack(softmax, came, top)
            progress(number + 1, len(windows.tokens))

    return fill
