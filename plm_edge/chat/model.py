"""A loaded model with one sequence in its cache: tokenize, feed tokens, sample the next one.

Follows llama.cpp's C API (include/llama.h) through the binding's low-level module.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from plm_edge.chat import preflight
from plm_edge.chat.loaded import Fed, ModelOptions, StopCheck
from plm_edge.chat.preflight import CacheType
from plm_edge.chat.sampler import sampler_chain
from plm_edge.chat.sampling import Sampling
from plm_edge.console import Progress, no_progress
from plm_edge.engine.library import LlamaLog, load_library
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.gguf_header import GgufHeader
from plm_edge.shell import quote

__all__ = ["BATCH_TOKENS", "ChatModel", "Fed", "ModelOptions", "StopCheck", "common_prefix"]

_GGML_TYPES: dict[CacheType, int] = {"f16": 1, "q8_0": 8}

# Tokens computed at once; more gains nothing on a CPU and takes memory.
BATCH_TOKENS = 512

_ABORTED = 2
_NO_SLOT = 1


class ChatModel:
    """A GGUF loaded by our engine; use as a context manager, or call `close`."""

    def __init__(
        self,
        header: GgufHeader,
        lib_dir: Path,
        options: ModelOptions,
        progress: Progress = no_progress,
    ) -> None:
        self.header = header
        self.path = header.path
        self.shape = preflight.shape_of(header)
        self.options = options
        self.context_tokens = options.context_tokens or self.shape.max_position_embeddings
        preflight.require_cache_memory(header, self.context_tokens, options.cache_type)
        self._log = LlamaLog(verbose=options.verbose)
        self._api = load_library(lib_dir, self._log)
        self._model: Any = None
        self._context: Any = None
        self._cached: list[int] = []
        try:
            self._load(options, progress)
        except BaseException:
            self.close()
            raise

    def _load(self, options: ModelOptions, progress: Progress) -> None:
        self._model = self._open_model(progress)
        self._vocab = self._api.llama_model_get_vocab(self._model)
        self._vocab_size = self._api.llama_vocab_n_tokens(self._vocab)
        self._context = self._open_context(options)

    def _open_model(self, progress: Progress) -> Any:
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = 0
        interrupts: list[BaseException] = []
        params.progress_callback = self._progress_callback(progress, interrupts)
        model = self._api.llama_model_load_from_file(str(self.path).encode(), params)
        if interrupts:
            raise interrupts[0]
        if not model:
            reason = self._log.first_complaint() or "llama.cpp gives no reason"
            raise InputError(
                f"{self.path}: cannot load: {reason}",
                hint=quote(["plm-edge", "inspect", self.path]),
            )
        return model

    def _progress_callback(self, progress: Progress, interrupts: list[BaseException]) -> Any:
        size_bytes = self.path.stat().st_size

        def report(share: float, data: object) -> bool:
            # An exception cannot cross C: keep it, and tell C to give up.
            try:
                progress(int(share * size_bytes), size_bytes)
            except BaseException as error:
                interrupts.append(error)
            return not interrupts

        return self._api.llama_progress_callback(report)

    def _open_context(self, options: ModelOptions) -> Any:
        params = self._api.llama_context_default_params()
        params.n_ctx = self.context_tokens
        params.n_batch = params.n_ubatch = min(BATCH_TOKENS, self.context_tokens)
        params.n_threads = params.n_threads_batch = options.threads
        params.type_k = params.type_v = _GGML_TYPES[options.cache_type]
        if options.flash_attention is not None:
            params.flash_attn_type = int(options.flash_attention)
        context = self._api.llama_init_from_model(self._model, params)
        if not context:
            reason = self._log.first_complaint() or "llama.cpp gives no reason"
            raise InputError(f"{self.path}: no context of {self.context_tokens} tokens: {reason}")
        return context

    @property
    def name(self) -> str:
        """The model's own name, else its file's."""
        return preflight.model_name(self.header)

    @property
    def cache_bytes_per_token(self) -> int:
        """Bytes of latent cache one token takes."""
        return self.shape.cache_bytes_per_token(self.options.cache_type)

    def special_text(self, which: Literal["bos", "eos"]) -> str:
        """The text of the token that opens or closes a document, or nothing."""
        token = getattr(self._api, f"llama_vocab_{which}")(self._vocab)
        return self._token_text(token) if token >= 0 else ""

    def bos_tokens(self) -> tuple[int, ...]:
        """What the vocabulary wants in front of every prompt: usually nothing."""
        wants = self._api.llama_vocab_get_add_bos(self._vocab)
        token = self._api.llama_vocab_bos(self._vocab)
        return (token,) if wants and token >= 0 else ()

    # Text and tokens

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`; `special` turns the names of control tokens into those tokens."""
        raw = text.encode("utf-8")
        size = len(raw) + 8
        while True:
            buffer = (ctypes.c_int32 * size)()
            count: int = self._api.llama_tokenize(
                self._vocab, raw, len(raw), buffer, size, False, special
            )
            if count >= 0:
                return list(buffer[:count])
            size = -count

    def control_texts(self, tokens: Iterable[int]) -> Mapping[str, int]:
        """The control tokens among `tokens`: text → id."""
        mask = self._api.LLAMA_TOKEN_ATTR_CONTROL | self._api.LLAMA_TOKEN_ATTR_UNKNOWN
        attributes = self._api.llama_vocab_get_attr
        found = {token for token in tokens if attributes(self._vocab, token) & mask}
        return {self._token_text(token): token for token in found}

    def _token_text(self, token: int) -> str:
        text: bytes = self._api.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes `token` stands for: maybe part of a character; none for a control token."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count: int = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def is_end(self, token: int) -> bool:
        """Whether `token` ends the answer."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    # Computing

    @property
    def used_tokens(self) -> int:
        """How many tokens the cache holds."""
        return len(self._cached)

    def feed(self, tokens: Sequence[int], should_stop: StopCheck) -> Fed:
        """Bring the cache to exactly `tokens`, computing only what follows the common prefix.

        The last token is always computed: its logits are what `sample` reads.
        """
        reused = min(common_prefix(self._cached, tokens), len(tokens) - 1)
        self._truncate(reused)
        with self._abort_when(should_stop):
            for start in range(reused, len(tokens), BATCH_TOKENS):
                if should_stop() or not self._decode(tokens[start : start + BATCH_TOKENS]):
                    return Fed(reused, was_stopped=True)
        return Fed(reused, was_stopped=False)

    def append(self, token: int) -> None:
        """Compute one more token."""
        self._decode([token])

    def forget(self) -> None:
        """Empty the cache."""
        self._truncate(0)

    def _truncate(self, length: int) -> None:
        memory = self._api.llama_get_memory(self._context)
        if not self._api.llama_memory_seq_rm(memory, 0, length, -1):
            self._api.llama_memory_clear(memory, True)
            length = 0
        del self._cached[length:]

    def _decode(self, tokens: Sequence[int]) -> bool:
        """Compute `tokens` after the cached ones; False when it was aborted."""
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        batch = self._api.llama_batch_get_one(array, len(tokens))
        status = self._api.llama_decode(self._context, batch)
        if status == 0:
            self._cached += tokens
            return True
        self._truncate(len(self._cached))
        if status == _ABORTED:
            return False
        if status == _NO_SLOT:
            raise InputError(f"the context of {self.context_tokens} tokens is full")
        raise PlmEdgeError(f"the engine failed: {self._log.first_complaint() or status}")

    @contextmanager
    def _abort_when(self, should_stop: StopCheck) -> Iterator[None]:
        """Let a long prompt be stopped in the middle of a batch.

        Not used while single tokens are computed: the call back into Python between any two
        graph nodes would cost a few percent there.
        """
        callback = self._api.ggml_abort_callback(lambda data: should_stop())
        nothing = self._api.ggml_abort_callback(0)
        self._api.llama_set_abort_callback(self._context, callback, None)
        try:
            yield
        finally:
            self._api.llama_set_abort_callback(self._context, nothing, None)

    def sampler(self, sampling: Sampling) -> AbstractContextManager[Any]:
        """A chain of llama.cpp samplers for one answer."""
        return sampler_chain(self._api, self._vocab_size, sampling)

    def logits(self) -> NDArray[np.float32]:
        """The engine's own buffer of (vocab,) logits after the last token; valid until the next."""
        pointer = self._api.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))

    def sample(self, chain: Any) -> int:
        """The next token; `InputError` when the model's output is not numbers."""
        if not math.isfinite(float(self.logits().sum(dtype=np.float64))):
            raise InputError(f"{self.path}: the model gives no finite numbers; the file is damaged")
        return int(self._api.llama_sampler_sample(chain, self._context, -1))

    # Closing

    def close(self) -> None:
        """Free the model's memory; may be called twice."""
        context, self._context = self._context, None
        model, self._model = self._model, None
        if context:
            self._api.llama_free(context)
        if model:
            self._api.llama_model_free(model)

    def __enter__(self) -> ChatModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many items at the start are the same."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
