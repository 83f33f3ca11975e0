"""Puts an engine and a model in place on a device: what goes where, what is there, and sending it.

OUR FOLDER/engines/KEY/     programs, and beside them the libraries of an engine that has some
OUR FOLDER/models/          models under their own names
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname

from plm_edge.console import Progress
from plm_edge.device.local import LocalTransport
from plm_edge.device.push import Far, Pusher, look
from plm_edge.device.transport import Transport
from plm_edge.errors import SpaceError
from plm_edge.shell import quote

Watch = Callable[["Item"], AbstractContextManager[Progress]]
"""Opens a progress bar for one file."""


@dataclass(frozen=True)
class Item:
    """One file and its place there."""

    local: Path
    remote: str
    is_executable: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes to send if it is not there."""
        return self.local.stat().st_size


@dataclass(frozen=True)
class Missing:
    """An item that has to be sent, and what the device has of it."""

    item: Item
    far: Far


def is_in_place(transport: Transport) -> bool:
    """Whether files are used where they are: on this very machine."""
    return isinstance(transport, LocalTransport) and not transport.is_emulated


def engine_items(
    transport: Transport, key: str, programs: Sequence[Path], libraries: Path
) -> list[Item]:
    """The programs of an engine, and every library in the folder `libraries`."""
    folder = transport.path("engines", key)
    items = [Item(path, f"{folder}/{path.name}", is_executable=True) for path in programs]
    # A program asks for libx.so.0, a link to the file with the whole version in its name.
    sonames = [path for path in libraries.glob("lib*.so.*") if path.is_symlink()]
    plain = [path for path in libraries.glob("lib*.so") if not path.is_symlink()]
    wanted = sorted([*sonames, *plain])
    return items + [Item(path.resolve(), f"{folder}/{path.name}") for path in wanted]


def model_item(transport: Transport, file: Path) -> Item:
    """A model under its own name."""
    return Item(file.absolute(), transport.path("models", file.name))


def place_of(transport: Transport, item: Item) -> str:
    """The path to use there for `item`."""
    return str(item.local) if is_in_place(transport) else item.remote


def missing(transport: Transport, items: Iterable[Item]) -> list[Missing]:
    """The items that are not there yet, or differ; one round trip for all of them."""
    wanted = [] if is_in_place(transport) else list(items)
    found = look(transport, [item.remote for item in wanted]) if wanted else []
    there = (Missing(item, far) for item, far in zip(wanted, found, strict=True))
    return [one for one in there if _pusher(transport, one.item).is_needed(one.far)]


def require_space(transport: Transport, absent: Sequence[Missing]) -> None:
    """Raise `SpaceError` unless all of it fits together; an interrupted push needs less."""
    # What an earlier attempt left is gone on with, or makes room.
    needed = sum(one.item.size_bytes - one.far.part_bytes for one in absent)
    if not absent:
        return
    free = transport.free_bytes(dirname(absent[0].item.remote))
    if free < needed:
        raise SpaceError(
            f"{transport.name}: {needed / 1e6:.0f} MB are to be sent, but {transport.folder} has "
            f"{free / 1e6:.0f} MB free",
            hint=quote(["plm-edge", "device", "probe", transport.name]),
        )


def place(transport: Transport, absent: Iterable[Missing], watch: Watch) -> int:
    """Send what is missing; returns the bytes sent."""
    sent = 0
    for one in absent:
        with watch(one.item) as progress:
            sent += _pusher(transport, one.item).go_on(one.far, progress).sent_bytes
    return sent


def _pusher(transport: Transport, item: Item) -> Pusher:
    return Pusher(transport, item.local, item.remote, item.is_executable)
