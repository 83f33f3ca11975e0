"""Next-token distributions: how far one is from another, and a compact form of it.

The compact form keeps the K most likely tokens with log-probabilities of 16 bits, and the rest as
one lump. A divergence from it is that between the two distributions after the rest is lumped
together in both, which can only be smaller than the true one (data processing inequality).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEVELS = (1 << 16) - 1
# A lump smaller than this is the rounding of sums, and weighs nothing.
_SMALLEST_REST = 1e-12


@dataclass(frozen=True)
class Scores:
    """One value per judged prediction of a window."""

    surprise: Array  # -log p of the token that came
    divergence: Array  # KL(reference ‖ this), empty without a reference
    same_top: NDArray[np.bool_]  # whether both would have said the same token


def row_type(top: int) -> np.dtype[Any]:
    """One position in the store: `top` tokens, most likely first."""
    return np.dtype(
        [
            ("surprise", np.float32),
            ("rest", np.float32),
            ("low", np.float32),
            ("step", np.float32),
            ("tokens", np.uint32, (top,)),
            ("levels", np.uint16, (top,)),
        ]
    )


class Softmax:
    """The distributions of some positions, their shared parts computed once."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self._logits = logits
        self._highest = logits.max(axis=1, keepdims=True)
        self._weights = np.exp(logits - self._highest)
        self._total = self._weights.sum(axis=1, dtype=np.float64)

    def log(self, tokens: NDArray[np.integer[Any]]) -> Array:
        """Log-probabilities of `tokens`, (positions, K)."""
        chosen = np.take_along_axis(self._logits, tokens, axis=1) - self._highest
        log: Array = chosen.astype(np.float64) - np.log(self._total)[:, None]
        return log

    def rest(self, tokens: NDArray[np.integer[Any]]) -> Array:
        """The probability of all other tokens together.

        The same 32-bit terms are added and taken off in 64 bits, so little is lost in between.
        """
        chosen = np.take_along_axis(self._weights, tokens, axis=1).sum(axis=1, dtype=np.float64)
        left: Array = np.maximum(self._total - chosen, 0.0) / self._total
        return left

    def best(self, count: int) -> NDArray[np.int64]:
        """The `count` most likely tokens of each position, most likely first."""
        vocabulary = self._logits.shape[1]
        if count < vocabulary:
            found = np.argpartition(self._logits, vocabulary - count, axis=1)[:, -count:]
        else:
            found = np.tile(np.arange(vocabulary), (len(self._logits), 1))
        order = np.argsort(-np.take_along_axis(self._logits, found, axis=1), axis=1, kind="stable")
        best: NDArray[np.int64] = np.take_along_axis(found, order, axis=1)
        return best

    def top(self) -> NDArray[np.int64]:
        """The most likely token of each position."""
        best: NDArray[np.int64] = self._logits.argmax(axis=1)
        return best


def pack(softmax: Softmax, came: NDArray[np.int64], top: int) -> NDArray[Any]:
    """The compact form of distributions after which the tokens `came` did come."""
    tokens = softmax.best(top)
    log = softmax.log(tokens)
    rows = np.empty(len(came), row_type(top))
    low = log[:, -1:]
    step = np.maximum((log[:, :1] - low) / _LEVELS, np.finfo(np.float32).tiny)
    rows["surprise"] = -softmax.log(came[:, None])[:, 0]
    rows["rest"] = softmax.rest(tokens)
    rows["low"], rows["step"] = low[:, 0], step[:, 0]
    rows["tokens"] = tokens
    rows["levels"] = np.rint((log - low) / step).clip(0, _LEVELS)
    return rows


def unpack(rows: NDArray[Any]) -> tuple[NDArray[np.int64], Array, Array]:
    """(tokens, their log-probabilities, probability of the rest) of packed positions."""
    low, step = (rows[name].astype(np.float64)[:, None] for name in ("low", "step"))
    log: Array = low + step * rows["levels"]
    rest: Array = rows["rest"].astype(np.float64)
    # Rounding made the sum something else than one; put right, its error cancels to first order.
    total = np.exp(log).sum(axis=1) + rest
    return rows["tokens"].astype(np.int64), log - np.log(total)[:, None], rest / total


def score(softmax: Softmax, came: NDArray[np.int64], rows: NDArray[Any] | None) -> Scores:
    """How well the distributions foresaw `came`, and how far they are from packed ones."""
    surprise: Array = -softmax.log(came[:, None])[:, 0]
    if rows is None:
        nothing = np.empty(0)
        return Scores(surprise, nothing, nothing.astype(bool))
    tokens, log, rest = unpack(rows)
    divergence = (np.exp(log) * (log - softmax.log(tokens))).sum(axis=1)
    divergence += _rest_term(rest, softmax.rest(tokens))
    return Scores(surprise, divergence, softmax.top() == tokens[:, 0])


def _rest_term(mine: Array, theirs: Array) -> Array:
    weighs = mine > _SMALLEST_REST
    safe_mine, safe_theirs = (np.maximum(rest, _SMALLEST_REST) for rest in (mine, theirs))
    term: Array = np.where(weighs, safe_mine * np.log(safe_mine / safe_theirs), 0.0)
    return term
