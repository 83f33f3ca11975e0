"""What a chat would load and take, worked out from the file's header alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from plm_edge.chat import preflight
from plm_edge.chat.loaded import ModelOptions
from plm_edge.chat.sampling import Sampling
from plm_edge.gguf_header import GgufHeader


class BuiltEngine(Protocol):
    """The one thing about an engine that a plan names."""

    @property
    def lib_dir(self) -> Path:
        """The folder of libllama."""


def rows(
    header: GgufHeader, options: ModelOptions, sampling: Sampling, engine: BuiltEngine | None
) -> dict[str, Any]:
    """Label → value; `engine` is None when it would be built first."""
    shape = preflight.shape_of(header)
    context = options.context_tokens or shape.max_position_embeddings
    per_token = shape.cache_bytes_per_token(options.cache_type)
    return {
        "file": str(header.path),
        "weight_bytes": header.size_bytes,
        "random_weights": header.is_random,
        "engine": str(engine.lib_dir) if engine else "would be built",
        "threads": options.threads,
        "context_tokens": context,
        "cache_type": options.cache_type,
        "cache_bytes": per_token * context,
        "sampling": {key: value for key, value in asdict(sampling).items() if value is not None},
    }
