"""A model in our engine, in this process, that tells the logits of whole windows.

Follows llama.cpp's C API (include/llama.h) through the binding's low-level module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.console import Progress, no_progress
from plm_edge.engine.library import LlamaLog, load_library
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.gguf_header import GgufHeader
from plm_edge.shape import CACHE_BLOCKS, PlmShape
from plm_edge.shell import quote

Logits = NDArray[np.float32]
Hook = Callable[[int, bool, object], bool]
"""Called around every operation of the graph with the address of its tensor, as `cb_eval` is."""

# enum ggml_type of ggml.h
CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}
# Tokens computed at once, as the engine's own tools do.
BATCH_TOKENS = 512


@dataclass(frozen=True)
class Options:
    """How to load a model. Weights that are not `mapped` lie in memory that may be written."""

    context: int
    threads: int = 1
    cache_type: str = "f16"
    is_mapped: bool = True


class EvalModel:
    """A GGUF loaded by our engine; a context manager."""

    def __init__(
        self,
        header: GgufHeader,
        lib_dir: Path,
        options: Options,
        hook: Hook | None = None,
        progress: Progress = no_progress,
    ) -> None:
        header.require_architecture()
        self.header = header
        self.shape = PlmShape.from_metadata(header.metadata, str(header.path))
        self.options = _checked(options, self.shape)
        self._log = LlamaLog(verbose=False)
        self.api = load_library(lib_dir, self._log)
        self._hook = hook
        self._model: Any = None
        self._context: Any = None
        try:
            self._model = self._open_model(progress)
            vocabulary = self.api.llama_model_get_vocab(self._model)
            self.vocabulary_size: int = self.api.llama_vocab_n_tokens(vocabulary)
            self._context = self._open_context()
        except BaseException:
            self.close()
            raise

    def _open_model(self, progress: Progress) -> Any:
        params = self.api.llama_model_default_params()
        params.n_gpu_layers = 0
        if not self.options.is_mapped:
            params.load_mode = self.api.LLAMA_LOAD_MODE_NONE
            params.use_extra_bufts = False  # those hold weights rearranged
        size_bytes = self.header.size_bytes

        def report(share: float, data: object) -> bool:
            progress(int(share * size_bytes), size_bytes)
            return True

        params.progress_callback = self.api.llama_progress_callback(report)
        model = self.api.llama_model_load_from_file(str(self.header.path).encode(), params)
        if not model:
            raise self._error("cannot load")
        return model

    def _open_context(self) -> Any:
        options = self.options
        params = self.api.llama_context_default_params()
        params.n_ctx = options.context
        params.n_batch = params.n_ubatch = min(BATCH_TOKENS, options.context)
        params.n_threads = params.n_threads_batch = options.threads
        params.type_k = params.type_v = CACHE_TYPES[options.cache_type]
        if self._hook is not None:
            # C keeps only the address, so the callback must live as long as the context.
            self._callback = self.api.ggml_backend_sched_eval_callback(self._hook)
            params.cb_eval = self._callback
        context = self.api.llama_init_from_model(self._model, params)
        if not context:
            raise self._error(f"no context of {options.context} tokens")
        return context

    def _error(self, what: str) -> InputError:
        path = self.header.path
        reason = self._log.first_complaint() or "the engine gives no reason"
        return InputError(f"{path}: {what}: {reason}", hint=quote(["plm-edge", "inspect", path]))

    # Computing

    def logits(self, window: Sequence[int], first: int) -> Iterator[tuple[int, Logits]]:
        """(position, logits of it and those after) of a window, from `first` to the last but one.

        In pieces of at most `BATCH_TOKENS` rows, each the engine's own buffer: valid until the
        next one. Raises `InputError` when they are not numbers.
        """
        self.api.llama_memory_clear(self.api.llama_get_memory(self._context), True)
        for start in range(0, len(window), BATCH_TOKENS):
            tokens = window[start : start + BATCH_TOKENS]
            wanted = [first <= start + i < len(window) - 1 for i in range(len(tokens))]
            self._decode(tokens, start, wanted)
            if any(wanted):
                rows = self._rows(sum(wanted))
                self._require_numbers(rows)
                yield start + wanted.index(True), rows

    def run(self, window: Sequence[int]) -> None:
        """Compute a window for what the hook sees of it; of the logits, only the last token's."""
        for _ in self.logits(window, len(window) - 2):
            pass

    def _decode(self, tokens: Sequence[int], start: int, wanted: Sequence[bool]) -> None:
        batch = self.api.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i], batch.logits[i] = token, start + i, wanted[i]
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            status = self.api.llama_decode(self._context, batch)
        finally:
            self.api.llama_batch_free(batch)
        if status:
            raise PlmEdgeError(f"the engine failed: {self._log.first_complaint() or status}")

    def _rows(self, count: int) -> Logits:
        pointer = self.api.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(count, self.vocabulary_size))

    def _require_numbers(self, rows: Logits) -> None:
        # One NaN or infinity makes the sum one too; a sum that overflows alone needs more than f32.
        with np.errstate(invalid="ignore"):
            is_finite = np.isfinite(rows.sum(dtype=np.float64))
        if not is_finite:
            raise InputError(
                f"{self.header.path}: the model gives logits that are not numbers; "
                "the file is damaged",
                hint=quote(["plm-edge", "inspect", self.header.path]),
            )

    # Closing

    def close(self) -> None:
        """Free the model's memory; may be called twice."""
        context, self._context = self._context, None
        model, self._model = self._model, None
        if context:
            self.api.llama_free(context)
        if model:
            self.api.llama_model_free(model)

    def __enter__(self) -> EvalModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked(options: Options, shape: PlmShape) -> Options:
    block = CACHE_BLOCKS[options.cache_type][0]
    if shape.latent_width % block or shape.kv_lora_rank % block:
        raise InputError(
            f"--cache-type {options.cache_type}: blocks of {block} values do not fit a latent row "
            f"of {shape.kv_lora_rank} + {shape.qk_rope_head_dim}"
        )
    return options
