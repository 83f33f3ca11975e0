"""A chain of llama.cpp's samplers, in its own usual order, from our settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plm_edge.chat.sampling import PENALTY_WINDOW, Sampling


@contextmanager
def sampler_chain(api: Any, vocab_size: int, sampling: Sampling) -> Iterator[Any]:
    """The chain, freed at the end; `api` is the binding's low-level module."""
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    try:
        for link in _links(api, vocab_size, sampling):
            api.llama_sampler_chain_add(chain, link)
        yield chain
    finally:
        api.llama_sampler_free(chain)


def _links(api: Any, vocab_size: int, sampling: Sampling) -> Iterator[Any]:
    if sampling.repeat_penalty != 1.0:
        yield api.llama_sampler_init_penalties(
            vocab_size, PENALTY_WINDOW, sampling.repeat_penalty, 0.0, 0.0
        )
    if sampling.temperature == 0:
        yield api.llama_sampler_init_greedy()
        return
    yield api.llama_sampler_init_top_k(sampling.top_k)
    yield api.llama_sampler_init_top_p(sampling.top_p, 1)
    yield api.llama_sampler_init_min_p(sampling.min_p, 1)
    yield api.llama_sampler_init_temp(sampling.temperature)
    yield api.llama_sampler_init_dist(sampling.seed)
