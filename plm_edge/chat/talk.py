"""A conversation with a loaded model: one question in, one streamed answer out."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from plm_edge.chat import preflight, session
from plm_edge.chat.loaded import LoadedModel, StopCheck
from plm_edge.chat.prompt import Prompt, PromptBuilder
from plm_edge.chat.sampling import Sampling
from plm_edge.chat.session import Conversation, ModelId
from plm_edge.chat.template import CHATML, ChatTemplate
from plm_edge.errors import InputError

Finish = Literal["stop", "length", "context", "interrupted"]
"""Why an answer ended: the model was done, its limit, a full context, or the user."""

# Room kept for the answer when oldest turns are dropped: this share of the context at most.
_RESERVE_SHARE = 4


@dataclass(frozen=True)
class Reply:
    """One answer and what it took; speeds are per second of computing."""

    text: str
    finish: Finish
    prompt_tokens: int
    reused_tokens: int
    answer_tokens: int
    prompt_seconds: float
    answer_seconds: float
    left_out_exchanges: int

    @property
    def prompt_tokens_per_second(self) -> float:
        """Speed of reading the part of the prompt that was not in the cache."""
        return _rate(self.prompt_tokens - self.reused_tokens, self.prompt_seconds)

    @property
    def answer_tokens_per_second(self) -> float:
        """Speed of writing the answer."""
        return _rate(self.answer_tokens, self.answer_seconds)


class Chat:
    """Holds the conversation, and brings each question and its answer into it together."""

    def __init__(self, model: LoadedModel, sampling: Sampling, system: str = "") -> None:
        self.model = model
        self.sampling = sampling.with_seed()
        self.conversation = Conversation(system)
        self._builder = PromptBuilder(read_template(model), model, model.bos_tokens())

    @property
    def model_id(self) -> ModelId:
        """What a saved conversation says about this model."""
        return ModelId(self.model.name, self.model.path.name, self.model.header.size_bytes)

    def ask(
        self, text: str, on_text: Callable[[str], None], should_stop: StopCheck = lambda: False
    ) -> Reply:
        """Answer `text`, handing each piece of the answer to `on_text` as whole characters.

        The conversation grows only when there is an answer: an error, or a stop before the first
        token, leaves it as it was. Raises `InputError` when `text` does not fit the context.
        """
        asked = self._fitted(self.conversation.say("user", text))
        prompt = self._builder.build(asked.messages())
        started = time.monotonic()
        fed = self.model.feed(prompt.tokens, should_stop)
        answering = time.monotonic()
        answer = _Answer(on_text)
        finish: Finish = "interrupted"
        if not fed.was_stopped:
            finish = self._generate(answer, should_stop)
        if answer.tokens or finish != "interrupted":
            self._builder.remember(prompt, answer.text, answer.tokens)
            left_out = _left_out_exchanges(self.conversation, asked)
            self.conversation = asked.say("assistant", answer.text)
        else:
            left_out = 0
        return Reply(
            text=answer.text,
            finish=finish,
            prompt_tokens=len(prompt.tokens),
            reused_tokens=fed.reused_tokens,
            answer_tokens=len(answer.tokens),
            prompt_seconds=answering - started,
            answer_seconds=time.monotonic() - answering,
            left_out_exchanges=left_out,
        )

    def _fitted(self, asked: Conversation) -> Conversation:
        context = self.model.context_tokens
        reserve = min(self.sampling.max_tokens, context // _RESERVE_SHARE)
        return session.fit(asked, lambda talk: len(self._prompt(talk).tokens), context, reserve)

    def _prompt(self, conversation: Conversation) -> Prompt:
        return self._builder.build(conversation.messages())

    def _generate(self, answer: _Answer, should_stop: StopCheck) -> Finish:
        sampling = self.sampling.for_answer(self.conversation.exchanges())
        with self.model.sampler(sampling) as chain:
            while not should_stop():
                token = self.model.sample(chain)
                if self.model.is_end(token):
                    return "stop"
                answer.add(token, self.model.piece(token))
                if len(answer.tokens) >= sampling.max_tokens:
                    return "length"
                if self.model.used_tokens >= self.model.context_tokens:
                    return "context"
                self.model.append(token)
        return "interrupted"


class _Answer:
    """Collects tokens, and passes on their text as soon as characters are whole."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        # A character of several bytes may be spread over tokens; the decoder holds back its
        # first bytes, and what is still incomplete when the answer is cut is dropped.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.tokens: list[int] = []
        self.text = ""

    def add(self, token: int, piece: bytes) -> None:
        self.tokens.append(token)
        if text := self._decoder.decode(piece):
            self.text += text
            self._on_text(text)


def read_template(model: LoadedModel) -> ChatTemplate:
    """The template in the model's file; ChatML if it has none but knows ChatML's tokens."""
    source = preflight.template_source(model.header)
    if source is None:
        known = model.control_texts(model.tokenize("<|im_start|><|im_end|>", special=True))
        if len(known) < 2:
            raise InputError(
                f"{model.path}: has no chat template ({preflight.TEMPLATE_KEY})",
                hint="convert an Instruct checkpoint: a base model does not chat",
            )
        source = CHATML
    bos, eos = model.special_text("bos"), model.special_text("eos")
    return ChatTemplate(source, name=str(model.path), bos=bos, eos=eos)


def _left_out_exchanges(before: Conversation, after: Conversation) -> int:
    newly = after.turns[before.left_out : after.left_out]
    return sum(turn.role == "user" for turn in newly)


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0
