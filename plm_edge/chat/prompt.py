"""From a conversation to token ids, with what people typed kept apart from the template's marks.

`<|im_end|>` in a template ends a turn; the same letters typed by a user must stay letters, or
anybody whose text is pasted into a chat could end the user's turn and speak as the system.
Both reach the tokenizer in one rendered text, so such letters are broken up by a mark that
occurs nowhere else before the template runs, and the mark is taken out again afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plm_edge.chat.template import ChatTemplate, Message

# Planes 15 and 16 of Unicode are for private use: no text has a meaning for them.
_MARKS = range(0xF0000, 0x110000)


class Vocabulary(Protocol):
    """What this module needs from a model's tokenizer."""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`; `special` turns the names of control tokens into those tokens."""

    def control_texts(self, tokens: Iterable[int]) -> Mapping[str, int]:
        """The control tokens among `tokens`: text → id."""


@dataclass
class PromptBuilder:
    """Renders and tokenizes conversations; remembers what the model said token by token.

    A model may spell its answer otherwise than the tokenizer would. Keeping its own tokens
    lets the next turn go on from the cache instead of computing the answer again.
    """

    template: ChatTemplate
    vocabulary: Vocabulary
    bos: tuple[int, ...] = ()
    _said_text: str = field(default="", init=False)
    _said_tokens: list[int] = field(default_factory=list, init=False)

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt for `messages`."""
        mark = unused_mark([self.template.source, *(m["content"] for m in messages)])
        safe = [{**m, "content": self._break_up(m["content"], mark)} for m in messages]
        text = self.template.render(safe)
        return Prompt(text, mark, tuple(self._tokens(text, mark)))

    def remember(self, prompt: Prompt, answer: str, tokens: Sequence[int]) -> None:
        """Note which tokens the model used for `answer` after `prompt`.

        Where one of them is not known (negative), the text will be tokenized like any other.
        """
        is_known = min(tokens, default=0) >= 0
        self._said_text = prompt.text + self._break_up(answer, prompt.mark) if is_known else ""
        self._said_tokens = [*prompt.tokens, *tokens]

    def _tokens(self, text: str, mark: str) -> list[int]:
        if self._said_text and text.startswith(self._said_text):
            rest = text[len(self._said_text) :]
            return self._said_tokens + tokenize_marked(rest, mark, self.vocabulary)
        tokens = tokenize_marked(text, mark, self.vocabulary)
        has_bos = tokens[: len(self.bos)] == list(self.bos)
        return tokens if has_bos else [*self.bos, *tokens]

    def _break_up(self, text: str, mark: str) -> str:
        # Breaking one up may uncover a longer one around it: go on until none is left.
        while found := self.vocabulary.control_texts(self.vocabulary.tokenize(text, special=True)):
            for control in found:
                text = text.replace(control, broken(control, mark))
        return text


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: the text with marks in it, the mark, and the tokens."""

    text: str
    mark: str
    tokens: tuple[int, ...]


def broken(control: str, mark: str) -> str:
    """`control` with `mark` in it; a control token of one letter cannot be spelled, so it goes."""
    return control[0] + mark + control[1:] if len(control) > 1 else mark


def unused_mark(texts: Iterable[str]) -> str:
    """A private-use character that occurs in none of `texts`."""
    used = set().union(*map(set, texts))
    return next(chr(code) for code in _MARKS if chr(code) not in used)


def tokenize_marked(text: str, mark: str, vocabulary: Vocabulary) -> list[int]:
    """Tokens of `text`, where a control token with a mark in it counts as ordinary letters."""
    tokens = vocabulary.tokenize(text, special=True)
    if mark not in text:
        return tokens
    controls = vocabulary.control_texts(tokens)
    result: list[int] = []
    for part in _split(text, controls):
        if part in controls:
            result.append(controls[part])
        elif part:
            result += vocabulary.tokenize(part.replace(mark, ""), special=False)
    return result


def _split(text: str, controls: Mapping[str, int]) -> list[str]:
    if not controls:
        return [text]
    longest_first = sorted(controls, key=len, reverse=True)
    return re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
