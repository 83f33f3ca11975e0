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
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from plm_edge.model.dataset import TURN_END, Encoder
from plm_edge.model.plm import LatentCache, PlmModel

REFINE = "Refine your answer: make it correct and complete."

Reward = Callable[[str, str], float]
"""Scores an answer to a question; higher is better. A rule or a model."""


@dataclass(frozen=True)
class Preference:
    """A question with a better and a worse answer."""

    question: str
    better: str
    worse: str


@dataclass(frozen=True)
class PreferenceSettings:
    """β of DPO, the refinement's share a, and the least reward a pair must differ by."""

    beta: float = 0.1
    refine_share: float = 0.5
    margin: float = 0.2


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
    *,
    most: int,
    temperature: float,
    generator: torch.Generator,
) -> str:
    """One answer of at most `most` tokens, drawn with the latent cache; greedy at temperature 0."""
    prompt = [*encoder.turn_open("user"), *encoder.plain(question), *encoder.turn_close()]
    prompt += encoder.turn_open("assistant")
    end = encoder.tokenizer.token_to_id(TURN_END)
    cache, out = LatentCache(), list[int]()
    logits = model.decode(torch.tensor(prompt)[None], cache)[0, -1]
    room = model.shape.max_position_embeddings - len(prompt)
    for _ in range(min(most, room)):
        chosen = _draw(logits, temperature, generator)
        if chosen == end:
            break
        out.append(chosen)
        logits = model.decode(torch.tensor([[chosen]]), cache)[0, -1]
    text: str = encoder.tokenizer.decode(out)
    return text


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    shares = (logits.float() / temperature).softmax(-1)
    return int(torch.multinomial(shares, 1, generator=generator))


def online_round(
    model: PlmModel,
    encoder: Encoder,
    questions: Sequence[str],
    reward: Reward,
    settings: PreferenceSettings,
    *,
    seed: int,
    draws: int = 3,
    most: int = 64,
) -> list[Preference]:
    """Pairs from the model's own answers: drawn, each refined once, filtered by reward.

    Per question the best and the worst of all candidates make a pair when they differ by at least
    `margin`; a question whose candidates are equally good teaches nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"most": most, "temperature": 1.0, "generator": generator}
    found = []
    for question in questions:
        first = [sample(model, encoder, question, **options) for _ in range(draws)]
        refined = [
            sample(model, encoder, refinement_prompt(question, answer), **options)
            for answer in first
        ]
        ranked = sorted(first + refined, key=lambda answer: reward(question, answer))
        worst, best = ranked[0], ranked[-1]
        if reward(question, best) - reward(question, worst) >= settings.margin:
            found.append(Preference(question, best, worst))
    return found


def word_f1(answer: str, wanted: str) -> float:
    """The rule plm-nano's rounds are filtered by: F1 of the words two texts share."""
    left, right = answer.lower().split(), wanted.lower().split()
    shared = sum(min(left.count(word), right.count(word)) for word in set(left))
    return 2 * shared / (len(left) + len(right)) if left or right else 1.0
