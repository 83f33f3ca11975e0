"""A model that says what the test tells it, and items, for tests that need some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plm_edge.eval.tasks.model import Completion, Likelihoods, Prompt, Timing

TIMING = Timing(10, 0.1, 4, 3, 0.3, 0.4, 0.2)


@dataclass
class SaidModel:
    """Answers by prompt; counts how often it was asked."""

    texts: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    asked: list[Prompt] = field(default_factory=list)

    def complete(self, prompt: Prompt, max_tokens: int, stop: Sequence[str]) -> Completion:
        self.asked.append(prompt)
        return Completion(self.texts[prompt.text], TIMING)

    def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
        self.asked.append(prompt)
        values = tuple(self.values[prompt.text])
        return Likelihoods(values, tuple(value == max(values) for value in values), TIMING)
