"""A conversation as values: who said what, what fits the context, and its file on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from plm_edge.chat.template import Message
from plm_edge.errors import ConfigError, InputError
from plm_edge.paths import read_bytes, write_text_atomic

Role = Literal["user", "assistant"]

FILE_FORMAT = "plm-edge chat"
FILE_VERSION = 1
FILE_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True)
class Turn:
    """One thing said by one side."""

    role: Role
    text: str


@dataclass(frozen=True)
class Conversation:
    """Everything said so far; the first `left_out` turns no longer go into the prompt."""

    system: str = ""
    turns: tuple[Turn, ...] = ()
    left_out: int = 0

    def say(self, role: Role, text: str) -> Conversation:
        """This conversation with one more turn."""
        return replace(self, turns=(*self.turns, Turn(role, text)))

    def messages(self) -> list[Message]:
        """What the template gets: the system prompt, if any, and the turns that are kept."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        kept = self.turns[self.left_out :]
        return system + [{"role": turn.role, "content": turn.text} for turn in kept]

    def exchanges(self) -> int:
        """How often the user has spoken."""
        return sum(turn.role == "user" for turn in self.turns)

    def without_oldest(self) -> Conversation | None:
        """This conversation with one more exchange left out, or None if only the last is left."""
        for index in range(self.left_out + 1, len(self.turns)):
            if self.turns[index].role == "user":
                return replace(self, left_out=index)
        return None


def fit(
    conversation: Conversation,
    prompt_tokens: Callable[[Conversation], int],
    context_tokens: int,
    reserve_tokens: int,
) -> Conversation:
    """The conversation with its oldest exchanges left out whole until prompt and answer fit.

    When something must go, a quarter of the room is freed at once: leaving out one exchange
    each turn would make every turn compute the whole prompt anew. Raises `InputError` when the
    last message alone is too long; one that leaves less than the reserve is let through.
    """
    room = context_tokens - reserve_tokens
    needed = prompt_tokens(conversation)
    goal = room if needed <= room else room * 3 // 4
    while needed > goal:
        shorter = conversation.without_oldest()
        if shorter is None:
            break
        conversation, needed = shorter, prompt_tokens(shorter)
    if needed >= context_tokens:
        raise InputError(
            f"the prompt takes {needed} tokens, but the context holds {context_tokens}",
            hint=f"shorten it, or pass --ctx {_next_size(needed + reserve_tokens)}",
        )
    return conversation


def _next_size(tokens: int) -> int:
    """`tokens` rounded up to the multiple of 256 that llama.cpp rounds to anyway."""
    return -(-tokens // 256) * 256


@dataclass(frozen=True)
class ModelId:
    """Which model a saved conversation was held with."""

    name: str
    file: str
    size_bytes: int


@dataclass(frozen=True)
class SavedChat:
    """What a session file holds."""

    conversation: Conversation
    model: ModelId


def save(path: Path, chat: SavedChat) -> None:
    """Write a session file, whole or not at all."""
    conversation, model = chat.conversation, chat.model
    document = {
        "format": FILE_FORMAT,
        "version": FILE_VERSION,
        "model": {"name": model.name, "file": model.file, "size_bytes": model.size_bytes},
        "system": conversation.system,
        "turns": [{"role": turn.role, "text": turn.text} for turn in conversation.turns],
    }
    write_text_atomic(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def load(path: Path) -> SavedChat:
    """Read a session file; `ConfigError` names what is wrong with it."""
    raw = read_bytes(path, limit_bytes=FILE_LIMIT_BYTES)
    try:
        document = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a session file: {error}") from error
    reader = _Reader(path)
    table = reader.table(document, "the file")
    if table.get("format") != FILE_FORMAT:
        raise ConfigError(f"{path}: format = {table.get('format')!r}, expected {FILE_FORMAT!r}")
    if table.get("version") != FILE_VERSION:
        raise ConfigError(f"{path}: version = {table.get('version')!r}, expected {FILE_VERSION}")
    model = reader.table(table.get("model"), "model")
    conversation = Conversation(reader.text(table, "system"), reader.turns(table.get("turns")))
    size_bytes = model.get("size_bytes")
    if isinstance(size_bytes, bool) or not isinstance(size_bytes, int):
        raise ConfigError(f"{path}: size_bytes = {size_bytes!r}, expected a whole number")
    identity = ModelId(reader.text(model, "name"), reader.text(model, "file"), size_bytes)
    return SavedChat(conversation, identity)


@dataclass(frozen=True)
class _Reader:
    """Checks the pieces of a session file; every complaint names the file."""

    path: Path

    def table(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ConfigError(f"{self.path}: {name} is not a JSON object")
        return value

    def text(self, table: dict[str, Any], key: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not _is_unicode(value):
            raise ConfigError(f"{self.path}: {key} = {value!r}, expected text")
        return value

    def turns(self, value: Any) -> tuple[Turn, ...]:
        if not isinstance(value, list):
            raise ConfigError(f"{self.path}: turns is not a JSON list")
        return tuple(self._turn(index, item) for index, item in enumerate(value))

    def _turn(self, index: int, value: Any) -> Turn:
        table = self.table(value, f"turn {index}")
        # Templates rely on the sides taking turns; a file that breaks this was not written by us.
        expected = "assistant" if index % 2 else "user"
        if table.get("role") != expected:
            raise ConfigError(
                f"{self.path}: turn {index} has role {table.get('role')!r}, expected {expected!r}"
            )
        return Turn(cast(Role, expected), self.text(table, "text"))


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
