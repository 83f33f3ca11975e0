"""A model for `chat --device`: put on the device, served there, and used from here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from plm_edge import console
from plm_edge.chat import server
from plm_edge.chat.far_model import FarModel
from plm_edge.chat.loaded import ModelOptions
from plm_edge.commands import _device, _device_server
from plm_edge.commands._device import Seen
from plm_edge.commands._device_options import Ask

if TYPE_CHECKING:
    from plm_edge.gguf_header import GgufHeader


@contextmanager
def loaded(it: Seen, header: GgufHeader, ask: Ask) -> Iterator[FarModel]:
    """Within, the model answers; leaving the block ends its server on the device."""
    engine = _device.ready_engine(it.transport.name, it.profile)
    port = _device_server.any_port()
    options = _device_server.options_of(it, server.alias_of(header), port)
    with _device_server.running(it, engine, header.path, options) as there:
        there.wait_until_ready()
        settings = ModelOptions(
            it.plan.context_tokens,
            it.threads,
            ask.cache_type,
            is_emulated=it.facts.is_emulated,
        )
        with FarModel(header, settings, there.url, there.explain) as model:
            yield model
        if ask.is_verbose:
            console.note(there.running.stderr)
