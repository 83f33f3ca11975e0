"""What a task needs from a model, and what it notes about each call; commands bring the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from plm_edge.errors import InputError


class TooLongError(InputError):
    """A prompt and its answer do not fit the context; another item may."""


@dataclass(frozen=True)
class Prompt:
    """A request: plain text to go on from, or a user's message in the model's chat template."""

    text: str
    is_chat: bool = False
    system: str = ""


@dataclass(frozen=True)
class Timing:
    """What one call took; `first_token_seconds` counts from the prompt's first token.

    `decoded_tokens` are those computed one by one in `answer_seconds`: the first token of an
    answer comes with the prompt, and the last one need not be computed.
    """

    prompt_tokens: int
    first_token_seconds: float
    answer_tokens: int
    decoded_tokens: int
    answer_seconds: float
    total_seconds: float
    cpu_seconds: float

    def plus(self, other: Timing) -> Timing:
        """Both calls together; the first token is the first call's."""
        return Timing(
            self.prompt_tokens + other.prompt_tokens,
            self.first_token_seconds,
            self.answer_tokens + other.answer_tokens,
            self.decoded_tokens + other.decoded_tokens,
            self.answer_seconds + other.answer_seconds,
            self.total_seconds + other.total_seconds,
            self.cpu_seconds + other.cpu_seconds,
        )


@dataclass(frozen=True)
class Completion:
    """What the model wrote."""

    text: str
    timing: Timing


@dataclass(frozen=True)
class Likelihoods:
    """Natural log of each continuation's probability; `greedy`: the model itself would write it."""

    values: tuple[float, ...]
    greedy: tuple[bool, ...]
    timing: Timing


Scores = dict[str, float]


@dataclass(frozen=True)
class Answered:
    """A model's answer to one item, judged; `output` is what it wrote or chose."""

    scores: Scores
    output: str
    timing: Timing


class TaskModel(Protocol):
    """A loaded model; every call starts from an empty cache, so that its times are its own."""

    def complete(self, prompt: Prompt, max_tokens: int, stop: Sequence[str]) -> Completion:
        """Write greedily, until a stop text, the end token or the limit."""

    def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
        """How probable each continuation is; `InputError` when the model gives no numbers."""
