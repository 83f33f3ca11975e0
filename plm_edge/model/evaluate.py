"""What a trained model is worth: held-out loss, and answers beside what needs no model at all.

Answers are judged on modules no phase has seen, by two measures: the share of words a greedy answer
has in common with the documented one (F1), and whether the documented answer is the likeliest of
four. Beside them the majority (the commonest training answer) and retrieval (the answer whose words
overlap the question's the most). Intervals are 95 %: bootstrap for means, Wilson for shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from plm_edge.console import Progress, no_progress
from plm_edge.model import corpus, dialogue, preference, shards, sparsity
from plm_edge.model.batches import fixed_windows
from plm_edge.model.dataset import Encoder
from plm_edge.model.dialogue import Pair
from plm_edge.model.plm import PlmModel
from plm_edge.model.recipe import Sampling

RESAMPLES = 2000
# Tokens; the documented answers beside it are not cut either.
LONGEST_ANSWER = 128
Z95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over `count` cases."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class HeldOut:
    """Cross-entropy in nats per token, and its exponential."""

    loss: Estimate
    perplexity: Estimate
    zero_shares: tuple[float, ...]


@dataclass(frozen=True)
class TaskScore:
    """One kind of question: the model beside the trivial answers."""

    kind: str
    measure: str
    model: Estimate
    majority: Estimate
    retrieval: Estimate


def bootstrap(values: Sequence[float], seed: int = 1) -> Estimate:
    """The mean of independent cases, with percentiles of resampled means."""
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), [2.5, 97.5])
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def wilson(hits: Sequence[bool]) -> Estimate:
    """A share with Wilson's interval."""
    count = len(hits)
    share = sum(hits) / count
    spread = Z95 * sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    middle, scale = share + Z95**2 / (2 * count), 1 + Z95**2 / count
    return Estimate(share, (middle - spread) / scale, (middle + spread) / scale, count)


@torch.no_grad()
def held_out(
    model: PlmModel, folder: Path, name: str, length: int = 512, force: float | None = None
) -> HeldOut:
    """Loss over a shard in windows of `length`; with `force`, that share of activations is cut."""
    shard = shards.open_shard(folder, name)
    batch = fixed_windows(shard, length, len(shard.ids) // length)
    losses: list[float] = []
    with sparsity.forced(model, force):
        for part in batch.micro_batches(4):
            wanted = part.targets.masked_fill(~part.counts, -100)
            each = F.cross_entropy(
                model(part.inputs).transpose(1, 2), wanted, ignore_index=-100, reduction="none"
            )
            counted = part.counts.sum(dim=1)
            losses += [float(v) for v in (each.sum(1) / counted.clamp(min=1))[counted > 0]]
    loss = bootstrap(losses)
    perplexity = Estimate(exp(loss.mean), exp(loss.low), exp(loss.high), loss.count)
    zeros = model.zero_fractions(batch.inputs[:16])
    return HeldOut(loss, perplexity, tuple(zeros))


def tasks(
    model: PlmModel, encoder: Encoder, most: int, progress: Progress = no_progress
) -> list[TaskScore]:
    """Every kind of question on the test modules, at most `most` of each."""
    modules = corpus.split(corpus.standard_library())
    kinds = (*dialogue.GENERAL, *dialogue.CODE)
    scores: list[TaskScore] = []
    for number, kind in enumerate(kinds):
        progress(number, len(kinds))
        known = dialogue.pairs(modules["train"], (kind,))
        asked = _spread(dialogue.pairs(modules["test"], (kind,)), most)
        scores.append(_answers(model, encoder, kind, asked, known))
        scores.append(_choices(model, encoder, kind, asked))
    return scores


def _spread(pairs: list[Pair], most: int) -> list[Pair]:
    """Up to `most` pairs, evenly over the list, so that no module fills it."""
    step = max(1.0, len(pairs) / most)
    return [pairs[int(i * step)] for i in range(min(most, len(pairs)))]


def _answers(
    model: PlmModel, encoder: Encoder, kind: str, asked: list[Pair], known: list[Pair]
) -> TaskScore:
    greedy, generator = Sampling(LONGEST_ANSWER, temperature=0), torch.Generator()
    common = Counter(pair.answer for pair in known).most_common(1)[0][0]
    words = [Counter(pair.question.lower().split()) for pair in known]
    rows: list[tuple[float, float, float]] = []
    for pair in asked:
        (said,) = preference.sample(model, encoder, pair.question, greedy, generator)
        texts = (said, common, known[_nearest(words, pair.question)].answer)
        rows.append(tuple(preference.word_f1(text, pair.answer) for text in texts))  # type: ignore[arg-type]
    return TaskScore(kind, "answer F1", *(bootstrap([row[i] for row in rows]) for i in range(3)))


def _nearest(known: list[Counter[str]], question: str) -> int:
    """Which of the known questions shares the most words with this one (F1)."""
    asked = Counter(question.lower().split())
    total = sum(asked.values())

    def shared(words: Counter[str]) -> float:
        return 2 * sum((words & asked).values()) / (sum(words.values()) + total)

    return max(range(len(known)), key=lambda at: shared(known[at]))


@torch.no_grad()
def _choices(model: PlmModel, encoder: Encoder, kind: str, asked: list[Pair]) -> TaskScore:
    random = np.random.default_rng(1)
    hits: list[tuple[bool, bool, bool]] = []
    for pair in asked:
        others = sorted({other.answer for other in asked} - {pair.answer})
        wrong = [others[i] for i in random.choice(len(others), 3, replace=False)]
        options = [*wrong, pair.answer]
        likely = [_mean_log_probability(model, encoder, pair.question, text) for text in options]
        overlap = [preference.word_f1(text, pair.question) for text in options]
        guess = int(random.integers(4))  # every option is as common as the others
        hits.append((int(np.argmax(likely)) == 3, guess == 3, int(np.argmax(overlap)) == 3))
    return TaskScore(kind, "best of 4", *(wilson([row[i] for row in hits]) for i in range(3)))


def _mean_log_probability(model: PlmModel, encoder: Encoder, question: str, answer: str) -> float:
    ids, counts = encoder.exchange(question, answer)
    most = model.shape.max_position_embeddings
    total = preference.answer_log_probability(model, ids[:most], counts[:most])
    return float(total) / max(1, sum(counts[:most]))
