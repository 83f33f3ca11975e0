"""Memory is planned before anything is loaded: weights, cache and scratch against what is free.

Pure. The engine takes the whole cache at start; a context that does not fit would have the system
kill it, or on a phone everything else, half way through a conversation.
"""

from __future__ import annotations

from dataclasses import dataclass

from plm_edge.device.probe import Facts
from plm_edge.errors import SpaceError
from plm_edge.shape import PlmShape

# llama.cpp rounds a context up to such a multiple; below one of them there is no conversation.
CONTEXT_STEP = 256
# Prompt tokens computed at once (the engine's default).
BATCH_TOKENS = 512
# Rows of logits the engine keeps room for, and what the program itself takes: measured 2026-11 on
# x86-64 at PLM's widths (2 layers) and vocabulary, llama.cpp's log and RssAnon: 36 MB of compute
# buffer at 4096 tokens, 50 MB for tokenizer, threads and libraries; this plan says 55 and 64.
LOGIT_ROWS = 8
PROGRAM_BYTES = 64_000_000
# What the rest of the system needs while the model works, or it starts to swap.
RESERVE_SHARE = 0.05
RESERVE_BYTES = 64_000_000
# Pinning what is nearly all of the memory would choke the rest of the system.
_PIN_SHARE = 0.75


@dataclass(frozen=True)
class Load:
    """What is to be loaded: the model's dimensions, its file's size, and how it is to be kept."""

    shape: PlmShape
    weights_bytes: int
    cache_type: str
    conversations: int = 1

    @property
    def token_bytes(self) -> int:
        """Bytes of latent cache one token of context takes, over all conversations."""
        return self.conversations * self.shape.cache_bytes_per_token(self.cache_type)

    @property
    def batch_bytes(self) -> int:
        """What a batch of a prompt needs on its way through: the widest layer, and its logits."""
        shape = self.shape
        widest = 2 * shape.intermediate_size + 2 * shape.hidden_size
        return 4 * BATCH_TOKENS * widest + 4 * LOGIT_ROWS * shape.vocab_size

    @property
    def mask_bytes(self) -> int:
        """What one token of context adds to a batch: a column of the attention mask, in f16."""
        return 2 * BATCH_TOKENS * self.conversations

    def scratch_bytes(self, context_tokens: int) -> int:
        """Everything that is neither weights nor cache."""
        return PROGRAM_BYTES + self.batch_bytes + self.mask_bytes * context_tokens


@dataclass(frozen=True)
class MemoryPlan:
    """How much each part takes in bytes, out of how much; `context_tokens` is what was chosen."""

    context_tokens: int
    weights_bytes: int
    cache_bytes: int
    scratch_bytes: int
    available_bytes: int
    is_pinned: bool
    lockable_bytes: float

    @property
    def needed_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.cache_bytes + self.scratch_bytes

    @property
    def load_mode(self) -> str:
        """The engine's name for how the weights are held."""
        return "mmap+mlock" if self.is_pinned else "mmap"

    def lines(self) -> list[str]:
        """The plan in words, with the reason for each choice."""
        parts = (self.weights_bytes, self.cache_bytes, self.scratch_bytes)
        weights, cache, scratch = (f"{part / 1e6:.0f} MB" for part in parts)
        return [
            f"weights {weights} + cache {cache} ({self.context_tokens} tokens) + scratch {scratch} "
            f"= {self.needed_bytes / 1e6:.0f} MB of {self.available_bytes / 1e6:.0f} MB available",
            "weights are mapped from the file (mmap): nothing is held twice, and under pressure "
            "the kernel drops what it can read again; what is rearranged for the CPU stays, "
            "unless --no-repack leaves it as it is in the file",
            self._pin_reason(),
        ]

    def _pin_reason(self) -> str:
        if self.is_pinned:
            return "weights are pinned (mlock): the limit there allows it and much memory is left"
        if self.lockable_bytes >= self.weights_bytes:
            return "weights are not pinned (mlock): that would leave too little for the system"
        limit = f"{self.lockable_bytes / 1e6:.0f} MB"
        return f"weights are not pinned (mlock): the limit there is {limit} (ulimit -l)"


def plan(name: str, load: Load, facts: Facts, context_tokens: int | None) -> MemoryPlan:
    """The plan for a context of so many tokens; None picks the largest that fits.

    Raises `SpaceError` that says what would fit if this does not.
    """
    largest = largest_context(load, facts)
    trained = load.shape.max_position_embeddings
    chosen = min(largest, trained) if context_tokens is None else context_tokens
    if chosen < min(CONTEXT_STEP, trained) or chosen > largest:
        raise _too_big(name, load, facts, context_tokens or CONTEXT_STEP, largest)
    return _planned(load, facts, chosen)


def largest_context(load: Load, facts: Facts) -> int:
    """How many tokens of context fit, in whole steps; 0 if the weights alone are too much."""
    left = _budget(facts) - load.weights_bytes - load.scratch_bytes(0)
    per_token = load.token_bytes + load.mask_bytes
    return max(0, left // per_token // CONTEXT_STEP * CONTEXT_STEP)


def largest_weights(load: Load, facts: Facts) -> int:
    """The largest file that would leave room for the shortest context; 0 if none would."""
    fixed = load.scratch_bytes(CONTEXT_STEP) + CONTEXT_STEP * load.token_bytes
    return max(0, _budget(facts) - fixed)


def _budget(facts: Facts) -> int:
    reserve = max(RESERVE_BYTES, int(RESERVE_SHARE * facts.memory_bytes))
    return facts.available_bytes - reserve


def _planned(load: Load, facts: Facts, context_tokens: int) -> MemoryPlan:
    fits_locked = facts.lockable_bytes >= load.weights_bytes
    is_small = load.weights_bytes < _PIN_SHARE * facts.available_bytes
    return MemoryPlan(
        context_tokens=context_tokens,
        weights_bytes=load.weights_bytes,
        cache_bytes=context_tokens * load.token_bytes,
        scratch_bytes=load.scratch_bytes(context_tokens),
        available_bytes=facts.available_bytes,
        is_pinned=fits_locked and is_small,
        lockable_bytes=facts.lockable_bytes,
    )


def _too_big(name: str, load: Load, facts: Facts, context_tokens: int, largest: int) -> SpaceError:
    needed = _planned(load, facts, context_tokens).needed_bytes
    hint = f"pass --ctx {largest}, or --ctx auto" if largest else None
    if hint is not None and load.cache_type != "q8_0":
        hint += "; --cache-type q8_0 halves the cache"
    if hint is None:
        limit = largest_weights(load, facts)
        hint = (
            f"a file of at most {limit / 1e6:.0f} MB fits: quantize it smaller"
            if limit
            else "end what is not needed there: not even the engine's scratch memory fits"
        )
    return SpaceError(
        f"{name}: {needed / 1e6:.0f} MB are needed with a context of {context_tokens} tokens, "
        f"but {facts.available_bytes / 1e6:.0f} MB are available; it would be killed",
        hint=hint,
    )
