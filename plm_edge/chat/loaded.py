"""What a conversation needs from a model, wherever that model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from plm_edge.chat.preflight import CacheType
from plm_edge.chat.sampling import Sampling
from plm_edge.gguf_header import GgufHeader

StopCheck = Callable[[], bool]


@dataclass(frozen=True)
class ModelOptions:
    """How to load a model: context 0 means as long as it was trained for."""

    context_tokens: int = 0
    threads: int = 1
    cache_type: CacheType = "f16"
    flash_attention: bool | None = None
    verbose: bool = False
    is_emulated: bool = False  # then it has no speed worth telling


@dataclass(frozen=True)
class Fed:
    """What `feed` did: tokens found in the cache, and whether it was stopped half way."""

    reused_tokens: int
    was_stopped: bool


class LoadedModel(Protocol):
    """A model with one sequence in its cache: tokenize, feed tokens, sample the next one."""

    header: GgufHeader
    path: Path
    options: ModelOptions
    context_tokens: int

    @property
    def name(self) -> str:
        """The model's own name, else its file's."""

    @property
    def cache_bytes_per_token(self) -> int:
        """Bytes of latent cache one token takes."""

    @property
    def used_tokens(self) -> int:
        """How many tokens the cache holds."""

    def special_text(self, which: Literal["bos", "eos"]) -> str:
        """The text of the token that opens or closes a document, or nothing."""

    def bos_tokens(self) -> tuple[int, ...]:
        """What the vocabulary wants in front of every prompt: usually nothing."""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`; `special` turns the names of control tokens into those tokens."""

    def control_texts(self, tokens: Iterable[int]) -> Mapping[str, int]:
        """The control tokens among `tokens`: text → id."""

    def feed(self, tokens: Sequence[int], should_stop: StopCheck) -> Fed:
        """Bring the cache to exactly `tokens`, computing only what is not in it."""

    def sampler(self, sampling: Sampling) -> AbstractContextManager[Any]:
        """What `sample` takes, for one answer."""

    def sample(self, chain: Any) -> int:
        """The next token."""

    def is_end(self, token: int) -> bool:
        """Whether `token` ends the answer."""

    def piece(self, token: int) -> bytes:
        """The bytes of the token that `sample` gave last: maybe part of a character."""

    def append(self, token: int) -> None:
        """Compute that token too."""
