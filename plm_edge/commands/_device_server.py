"""A server on a device for `chat --device` and `serve --device`: put there, started, forwarded."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from plm_edge import console
from plm_edge.chat import far_server, server
from plm_edge.commands import _device
from plm_edge.commands._device import Seen
from plm_edge.device import deploy
from plm_edge.device.local import LocalTransport

if TYPE_CHECKING:
    from plm_edge.chat.far_server import FarServer
    from plm_edge.chat.server import ServeOptions
    from plm_edge.device.transport import Transport
    from plm_edge.engine.cache import Engine


@contextmanager
def running(it: Seen, engine: Engine, file: Path, options: ServeOptions) -> Iterator[FarServer]:
    """Within, the model's server runs on the device; everything it needs is sent first."""
    wanted = _device.items(it.transport, engine, file, [_device.SERVER])
    _device.sent(it.transport, wanted)
    tool = deploy.place_of(it.transport, wanted[0])
    model = deploy.place_of(it.transport, wanted[-1])
    for line in it.plan.lines():
        console.note(line)
    with _keys(it.transport, options) as safe:
        far_port = _far_port(it.transport, options.port)
        there_options = replace(safe, port=far_port)
        placement = far_server.Placement(
            it.plan.load_mode, _cores(it), repacks=it.ask.repacks, is_verbose=it.ask.is_verbose
        )
        words = far_server.command(tool, model, there_options, placement)
        with far_server.serving(it.transport, words, far_port, options.port) as there:
            console.note(f"loading {file.name} on {it.transport.name}")
            yield there


def options_of(it: Seen, alias: str, port: int) -> ServeOptions:
    """The server's settings: on the device's loopback, with the memory that was planned."""
    return server.ServeOptions(
        host="127.0.0.1",
        port=port,
        context_tokens=it.plan.context_tokens,
        parallel=it.ask.conversations,
        threads=it.threads,
        cache_type=it.ask.cache_type,
        alias=alias,
    )


def any_port() -> int:
    """A port that is free here; far from those that services use, it is most likely free there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cores(it: Seen) -> Sequence[int]:
    """The big cores of a device that has small ones too."""
    has_small = len(it.facts.big_cores) < len(it.facts.cores)
    return it.facts.big_cores if has_small and not it.facts.is_emulated else ()


def _far_port(transport: Transport, near: int) -> int:
    """Another port than ours: a device reached over a wire may be this very machine."""
    return near if isinstance(transport, LocalTransport) else any_port()


@contextmanager
def _keys(transport: Transport, options: ServeOptions) -> Iterator[ServeOptions]:
    """The options with the API key in a file there that only its owner can read."""
    if options.api_key is None and options.api_key_file is None:
        yield options
        return
    remote = transport.path(f".keys-{options.port}")
    transport.run(["mkdir", "-p", transport.folder])
    transport.feed(["sh", "-c", 'umask 077; cat > "$1"', "sh", remote], _writer(options))
    try:
        yield replace(options, api_key=None, api_key_file=Path(remote))
    finally:
        transport.run(["rm", "-f", remote], check=False)


def _writer(options: ServeOptions) -> Callable[[IO[bytes]], None]:
    key, file = options.api_key, options.api_key_file
    text = file.read_bytes() if file is not None else (key or "").encode()

    def write(sink: IO[bytes]) -> None:
        sink.write(text + b"\n")

    return write
