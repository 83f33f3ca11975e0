"""Preference learning after ARIES (arXiv 2502.05605): better answers, and better refinements.

ARIES trains a model to answer and to refine its own answers, offline and then online. Its exact
losses are not public; this is our reconstruction, a DPO loss (arXiv 2305.18290) over both:

    L = (1 - a) · DPO(x; y_w, y_l) + a · DPO([x, y_l, "refine"]; y_w, y_l)
    DPO(x; w, l) = -log σ(β · [(log π(w|x) - log ρ(w|x)) - (log π(l|x) - log ρ(l|x))])

with the policy π and the frozen reference ρ, log-probabilities summed over an answer's tokens. The
second term prefers the better answer when the worse one stands in the prompt to be refined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from plm_edge.console import Progress, no_progress
from plm_edge.model.dataset import TURN_END, Encoder
from plm_edge.model.dialogue import Pair
from plm_edge.model.plm import LatentCache, PlmModel
from plm_edge.model.recipe import Online, PreferenceSettings, Sampling

REFINE = "Refine your answer: make it correct and complete."

Reward = Callable[[str, str], float]
"""Scores an answer to a question; higher is better. A rule or a model."""


@dataclass(frozen=True)
class Preference:
    """A question with a better and a worse answer."""

    question: str
    better: str
    worse: str


def dpo(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Mean DPO loss; both are (n, 2) summed log-probabilities of (better, worse) answers."""
    gain = (policy - reference)[:, 0] - (policy - reference)[:, 1]
    return -F.logsigmoid(beta * gain).mean()


def answer_log_probability(model: PlmModel, ids: Sequence[int], counts: Sequence[bool]) -> Tensor:
    """Σ log π(token | before) over the tokens that count; scalar."""
    tokens = torch.tensor(ids)[None]
    wanted = torch.tensor(counts)[1:]
    logits = model(tokens[:, :-1])[0].float()
    chosen = logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
    return chosen[wanted].sum()


def refinement_prompt(question: str, worse: str) -> str:
    """The question with a first answer to be refined; one turn, as ChatML allows any text in it."""
    return f"{question}\n\nFirst answer:\n{worse}\n\n{REFINE}"


def preference_loss(
    model: PlmModel,
    reference: PlmModel,
    encoder: Encoder,
    batch: Sequence[Preference],
    settings: PreferenceSettings,
) -> Tensor:
    """ARIES-style loss of a batch: answers and refinements, weighted by `refine_share`."""
    share = settings.refine_share
    loss = torch.zeros(())
    for weight, prompts in (
        (1 - share, [p.question for p in batch]),
        (share, [refinement_prompt(p.question, p.worse) for p in batch]),
    ):
        if weight > 0:
            policy = _both(model, encoder, prompts, batch)
            with torch.no_grad():
                frozen = _both(reference, encoder, prompts, batch)
            loss = loss + weight * dpo(policy, frozen, settings.beta)
    return loss


def _both(
    model: PlmModel, encoder: Encoder, prompts: Sequence[str], batch: Sequence[Preference]
) -> Tensor:
    rows = [
        torch.stack(
            [
                answer_log_probability(model, *encoder.exchange(prompt, answer))
                for answer in (pair.better, pair.worse)
            ]
        )
        for prompt, pair in zip(prompts, batch, strict=True)
    ]
    return torch.stack(rows)


def sample(
    model: PlmModel,
    encoder: Encoder,
    question: str,
    sampling: Sampling,
    generator: torch.Generator,
    count: int = 1,
) -> list[str]:
    """`count` answers to one question, drawn side by side over the latent cache."""
    prompt = [*encoder.turn_open("user"), *encoder.plain(question), *encoder.turn_close()]
    prompt += encoder.turn_open("assistant")
    end = encoder.tokenizer.token_to_id(TURN_END)
    room = min(sampling.most, model.shape.max_position_embeddings - len(prompt))
    cache, steps = LatentCache(), list[Tensor]()
    logits = model.decode(torch.tensor(prompt)[None].expand(count, -1), cache)[:, -1]
    done = torch.zeros(count, dtype=torch.bool)
    for _ in range(room):
        chosen = _draw(logits, sampling.temperature, generator).masked_fill(done, end)
        steps.append(chosen)
        done |= chosen == end
        if bool(done.all()):
            break
        logits = model.decode(chosen[:, None], cache)[:, -1]
    rows = torch.stack(steps, dim=1).tolist() if steps else [[]] * count
    return [encoder.tokenizer.decode([i for i in row if i != end]) for row in rows]


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One id a row: (B, vocab) → (B,)."""
    if temperature == 0:
        return logits.argmax(-1)
    shares = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(shares, 1, generator=generator)[:, 0]


def online_round(
    model: PlmModel,
    encoder: Encoder,
    questions: Sequence[str],
    reward: Reward,
    online: Online,
    *,
    margin: float,
    seed: int,
    progress: Progress = no_progress,
) -> list[Preference]:
    """Pairs from the model's own answers: drawn, each refined once, filtered by reward.

    Per question the best and the worst of all candidates make a pair when they differ by at least
    `margin`; a question whose candidates are equally good teaches nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number, question in enumerate(questions):
        progress(number, len(questions))
        first = sample(model, encoder, question, online.sampling, generator, online.draws)
        prompts = [refinement_prompt(question, answer) for answer in first]
        refined = [sample(model, encoder, p, online.sampling, generator)[0] for p in prompts]
        scores = {answer: reward(question, answer) for answer in first + refined}
        worst, best = min(scores, key=lambda a: scores[a]), max(scores, key=lambda a: scores[a])
        if scores[best] - scores[worst] >= margin:
            found.append(Preference(question, best, worst))
    return found


def offline_pairs(pairs: Sequence[Pair], count: int, seed: int, margin: float) -> list[Preference]:
    """`count` documented answers, each against the answer to another question of its kind.

    The rule is the same as online: they must differ by `margin` in words.
    """
    random = np.random.default_rng(seed)
    by_kind: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_kind.setdefault(pair.kind, []).append(pair)
    found: list[Preference] = []
    for place in random.permutation(len(pairs)):
        pair = pairs[place]
        alike = by_kind[pair.kind]
        other = alike[random.integers(len(alike))].answer
        if len(found) < count and word_f1(other, pair.answer) <= 1 - margin:
            found.append(Preference(pair.question, pair.answer, other))
    return found


def word_f1(answer: str, wanted: str) -> float:
    """The rule plm-nano's rounds are filtered by: F1 of the words two texts share."""
    left, right = answer.lower().split(), wanted.lower().split()
    shared = sum(min(left.count(word), right.count(word)) for word in set(left))
    return 2 * shared / (len(left) + len(right)) if left or right else 1.0
