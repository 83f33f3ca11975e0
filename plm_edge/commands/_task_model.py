"""The engine as a task sees it: a model in this process or on a device, timed call by call."""

from __future__ import annotations

import codecs
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plm_edge.errors import InputError
from plm_edge.eval.tasks.model import Completion, Likelihoods, Prompt, Timing, TooLongError

if TYPE_CHECKING:
    from plm_edge.chat.loaded import LoadedModel
    from plm_edge.chat.scoring import ScoringModel


class Prompts:
    """A model's tokens for prompts and what may follow them."""

    def __init__(self, model: LoadedModel) -> None:
        self._vocabulary = model

    def tokens(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, which leave room for an answer."""
        tokens = self._tokens(prompt)
        self._require_room(len(tokens))
        return tokens

    def with_continuations(
        self, prompt: Prompt, continuations: Sequence[str]
    ) -> tuple[list[int], list[list[int]]]:
        """The prompt's tokens, and those of the prompt with each continuation, which all fit."""
        context = self._tokens(prompt)
        whole = [self._continued(prompt, context, text) for text in continuations]
        self._require_room(max(map(len, whole)))
        return context, whole

    def _tokens(self, prompt: Prompt) -> list[int]:
        """A chat goes through the model's template."""
        tokens = list(self._vocabulary.bos_tokens())
        if prompt.is_chat:
            tokens = list(self._chat_tokens(prompt))
        else:
            tokens += self._vocabulary.tokenize(prompt.text, special=False)
        if not tokens:
            raise InputError("the prompt is empty")
        return tokens

    def _chat_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        from plm_edge.chat.prompt import PromptBuilder
        from plm_edge.chat.talk import read_template

        model = self._vocabulary
        builder = PromptBuilder(read_template(model), model, model.bos_tokens())
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        return builder.build([*system, {"role": "user", "content": prompt.text}]).tokens

    def _continued(self, prompt: Prompt, context: Sequence[int], text: str) -> list[int]:
        """Prompt and continuation as the model would have met them: as one text."""
        if prompt.is_chat:
            return [*context, *self._vocabulary.tokenize(text.lstrip(), special=False)]
        bos = list(self._vocabulary.bos_tokens())
        return bos + self._vocabulary.tokenize(prompt.text + text, special=False)

    def _require_room(self, tokens: int) -> None:
        """Raise `TooLongError` unless so many tokens and one more fit the context."""
        room = self._vocabulary.context_tokens
        if tokens >= room:
            raise TooLongError(
                f"the prompt takes {tokens} tokens, but the context holds {room}",
                hint=f"pass --ctx {-(-(tokens + 64) // 256) * 256}",
            )


class EngineTaskModel:
    """A `TaskModel` on a loaded file; greedy, and from an empty cache for every call."""

    def __init__(self, model: ScoringModel) -> None:
        self.model = model
        self._prompts = Prompts(model)

    def complete(self, prompt: Prompt, max_tokens: int, stop: Sequence[str]) -> Completion:
        """Write greedily, until a stop text, the end token or the limit."""
        from plm_edge.chat.sampling import Sampling

        tokens = self._prompts.tokens(prompt)
        clock = _Clock()
        self.model.forget()
        self.model.feed(tokens, lambda: False)
        sampling = Sampling(temperature=0, repeat_penalty=1.0, max_tokens=max_tokens, seed=0)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text, count, decoded = "", 0, 0
        with self.model.sampler(sampling) as chain:
            while True:
                token = self.model.sample(chain)
                clock.first_token()
                if self.model.is_end(token):
                    break
                count += 1
                text += decoder.decode(self.model.piece(token))
                is_full = self.model.used_tokens >= self.model.context_tokens
                if count >= max_tokens or is_full or any(mark in text for mark in stop):
                    break
                self.model.append(token)
                decoded += 1
        return Completion(_cut(text, stop), clock.timing(len(tokens), count, decoded))

    def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
        """How probable each continuation is; the prompt is computed once for all of them."""
        context, whole = self._prompts.with_continuations(prompt, continuations)
        clock = _Clock()
        self.model.forget()
        found, computed = [], len(context)
        for tokens in whole:
            start = seam(context, tokens)
            self.model.feed(tokens[:start], lambda: False)
            clock.first_token()
            found.append(self.model.likelihood(tokens[start:]))
            computed += len(tokens) - start
        return Likelihoods(
            tuple(each.log_probability for each in found),
            tuple(each.is_greedy for each in found),
            clock.timing(computed),
        )


class _Clock:
    """Wall and processor time from the first token of the prompt on."""

    def __init__(self) -> None:
        self._started, self._cpu = time.monotonic(), time.process_time()
        self._first: float | None = None

    def first_token(self) -> None:
        self._first = self._first or time.monotonic()

    def timing(self, prompt_tokens: int, answer_tokens: int = 0, decoded_tokens: int = 0) -> Timing:
        ended = time.monotonic()
        first = self._first or ended
        return Timing(
            prompt_tokens=prompt_tokens,
            first_token_seconds=first - self._started,
            answer_tokens=answer_tokens,
            decoded_tokens=decoded_tokens,
            answer_seconds=ended - first if decoded_tokens else 0.0,
            total_seconds=ended - self._started,
            cpu_seconds=time.process_time() - self._cpu,
        )


def seam(context: Sequence[int], tokens: Sequence[int]) -> int:
    """Where a continuation begins; what it changes of the prompt's last token belongs to it."""
    from plm_edge.chat.model import common_prefix

    return min(len(context), common_prefix(context, tokens), len(tokens) - 1)


def _cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop mark."""
    places = [text.index(mark) for mark in stop if mark in text]
    return text[: min(places)] if places else text
