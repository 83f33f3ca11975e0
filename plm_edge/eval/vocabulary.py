"""A file's vocabulary in our engine, without its weights."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from plm_edge.engine.library import LlamaLog, load_library
from plm_edge.errors import InputError
from plm_edge.gguf_header import GgufHeader


class Vocabulary:
    """Turns text into tokens as the engine's own tools do; a context manager."""

    def __init__(self, header: GgufHeader, lib_dir: Path) -> None:
        header.require_architecture()
        log = LlamaLog(verbose=False)
        self._api = load_library(lib_dir, log)
        params = self._api.llama_model_default_params()
        params.vocab_only = True
        self._model: Any = self._api.llama_model_load_from_file(str(header.path).encode(), params)
        if not self._model:
            reason = log.first_complaint() or "the engine gives no reason"
            raise InputError(f"{header.path}: cannot load its vocabulary: {reason}")
        self._vocabulary = self._api.llama_model_get_vocab(self._model)

    def tokenize(self, text: str) -> list[int]:
        """Token ids; names of control tokens in the text are text."""
        raw = text.encode("utf-8")
        size = len(raw) + 8
        buffer = (ctypes.c_int32 * size)()
        count = self._api.llama_tokenize(self._vocabulary, raw, len(raw), buffer, size, True, False)
        return list(buffer[:count])

    @property
    def opening_token(self) -> int | None:
        """The token every window begins with, if the vocabulary wants one."""
        wants = self._api.llama_vocab_get_add_bos(self._vocabulary)
        token = int(self._api.llama_vocab_bos(self._vocabulary))
        return token if wants and token >= 0 else None

    def close(self) -> None:
        """Free its memory; may be called twice."""
        model, self._model = self._model, None
        if model:
            self._api.llama_model_free(model)

    def __enter__(self) -> Vocabulary:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
