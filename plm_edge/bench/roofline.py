"""Bytes a decoded token has to read, from a file's header: what tok/s can be judged against.

A token reads every matrix once, of the embedding as a matrix once more if it is tied (it is the
output matrix) and only one row of it as a lookup, plus the cache of all tokens before it. The
edge engine on an edge-layout file reads only the live neurons' rows of `ffn_down`.
"""

from __future__ import annotations

from dataclasses import dataclass

from plm_edge.gguf_header import GgufHeader
from plm_edge.shape import PlmShape

# PLM-1.8B: 90.9 % of the squared-ReLU outputs are zero (the model's paper, table 1).
ASSUMED_LIVE_FRACTION = 0.091


@dataclass(frozen=True)
class Reads:
    """What one engine reads for a token of one file: weights, and cache per token before it."""

    weight_bytes: float
    cache_bytes_per_token: int

    def bytes_per_token(self, context_tokens: float) -> float:
        """Bytes read for a token that sees so many tokens, itself included."""
        return self.weight_bytes + self.cache_bytes_per_token * context_tokens

    def generation_bytes(self, depth: int, tokens: int) -> float:
        """Mean bytes per token while generating `tokens` after `depth` others."""
        return self.bytes_per_token(depth + (tokens + 1) / 2)


def reads(
    header: GgufHeader, *, latent: bool, cache_type: str, live_fraction: float | None = None
) -> Reads:
    """The reads of an engine: `latent` is the edge engine's cache; no `live_fraction` is dense."""
    shape = PlmShape.from_metadata(header.metadata, str(header.path))
    # Elsewhere a dead neuron is a column, and a column shares its blocks with others.
    sparse = live_fraction if header.layout == "edge" else None
    weights = sum(
        tensor.size_bytes * _share(tensor.name, header, sparse) for tensor in header.tensors
    )
    return Reads(weights, shape.cache_bytes_per_token(cache_type, latent=latent))


def _share(name: str, header: GgufHeader, live_fraction: float | None) -> float:
    if name == "token_embd.weight":
        is_tied = all(tensor.name != "output.weight" for tensor in header.tensors)
        return 1.0 if is_tied else 0.0
    if live_fraction is not None and name.endswith(".ffn_down.weight"):
        return live_fraction
    return 1.0
