"""A loaded model that also tells how probable given texts are, many tokens in one computation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.chat.model import ChatModel
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.shell import quote

# Rows of logits kept at once: with a vocabulary of 151,936 each takes 0.6 MB.
_ROWS = 32


@dataclass(frozen=True)
class Likelihood:
    """The natural log of a text's probability, and whether greedy writing would give the text."""

    log_probability: float
    is_greedy: bool


class ScoringModel(ChatModel):
    """A `ChatModel` that judges texts beside writing them."""

    def likelihood(self, tokens: Sequence[int]) -> Likelihood:
        """How probable it is that `tokens` follow what the cache holds.

        Raises `InputError` when the model's output is not numbers, or the context is full.
        """
        if self.used_tokens + len(tokens) - 1 > self.context_tokens:
            needed = self.used_tokens + len(tokens) - 1
            raise InputError(
                f"prompt and answer take {needed} tokens, but the context holds "
                f"{self.context_tokens}",
                hint=f"pass --ctx {-(-needed // 256) * 256}",
            )
        row = self._log_softmax(self.logits()[None, :])[0]
        total, is_greedy = row[tokens[0]], row.argmax() == tokens[0]
        for start in range(0, len(tokens) - 1, _ROWS):
            known = tokens[start : min(start + _ROWS, len(tokens) - 1)]
            following = np.asarray(tokens[start + 1 : start + 1 + len(known)])
            rows = self._log_softmax(self._rows(known))
            total += rows[np.arange(len(known)), following].sum()
            is_greedy &= bool((rows.argmax(axis=1) == following).all())
        return Likelihood(float(total), bool(is_greedy))

    def _log_softmax(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        values = logits.astype(np.float64)
        if not np.isfinite(values.sum()):
            raise InputError(
                f"{self.path}: the model gives logits that are not numbers; the file is damaged",
                hint=quote(["plm-edge", "inspect", self.path]),
            )
        values -= values.max(axis=1, keepdims=True)
        shifted: NDArray[np.float64] = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        return shifted

    def _rows(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Compute `tokens` after the cached ones: (tokens, vocab) logits."""
        with self._batch(tokens) as batch:
            status = self._api.llama_decode(self._context, batch)
        if status != 0:
            raise PlmEdgeError(f"the engine failed: {self._log.first_complaint() or status}")
        self._cached += tokens
        pointer = self._api.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(len(tokens), self._vocab_size))

    @contextmanager
    def _batch(self, tokens: Sequence[int]) -> Iterator[Any]:
        batch = self._api.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for index, token in enumerate(tokens):
                batch.token[index], batch.pos[index] = token, self.used_tokens + index
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
                batch.logits[index] = 1
            yield batch
        finally:
            self._api.llama_batch_free(batch)
