"""Putting engines and models in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from plm_edge.console import Progress
from plm_edge.device import deploy
from plm_edge.device.deploy import Item
from plm_edge.device.emulated import EmulatedTransport
from plm_edge.device.local import LocalTransport
from plm_edge.device.push import beside
from plm_edge.errors import SpaceError


@pytest.fixture
def pretend() -> EmulatedTransport:
    """A device whose files are copies, in a folder of this machine."""
    return EmulatedTransport("pretend", "cortex-a76")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine's folder with a program and a library under its three names."""
    for folder in ("bin", "lib"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/llama-server").write_text("#!/bin/sh\necho served\n")
    (tmp_path / "lib/libx.so.0.5.0").write_bytes(b"library")
    (tmp_path / "lib/libx.so.0").symlink_to("libx.so.0.5.0")
    (tmp_path / "lib/libx.so").symlink_to("libx.so.0")
    return tmp_path


def items(transport: LocalTransport, engine: Path) -> list[Item]:
    model = engine / "my model.gguf"
    model.write_bytes(b"weights" * 1000)
    programs = [engine / "bin/llama-server"]
    found = deploy.engine_items(transport, "edge-x", programs, engine / "lib")
    return [*found, deploy.model_item(transport, model)]


def test_programs_lie_beside_the_libraries_they_ask_for(
    pretend: EmulatedTransport, engine: Path
) -> None:
    places = [item.remote.removeprefix(pretend.folder) for item in items(pretend, engine)]

    assert places == [
        "/engines/edge-x/llama-server",
        "/engines/edge-x/libx.so.0",
        "/models/my model.gguf",
    ]


def test_only_what_is_missing_is_sent(pretend: EmulatedTransport, engine: Path) -> None:
    wanted = items(pretend, engine)
    seen: list[str] = []

    @contextmanager
    def watch(item: Item) -> Iterator[Progress]:
        seen.append(item.local.name)
        yield lambda done, total: None

    sent = deploy.place(pretend, deploy.missing(pretend, wanted), watch)

    assert sent == sum(item.size_bytes for item in wanted)
    assert (len(seen), deploy.missing(pretend, wanted)) == (3, [])
    assert pretend.run([deploy.place_of(pretend, wanted[0])]).stdout == "served\n"
    (engine / "my model.gguf").write_bytes(b"other")
    assert [one.item.local.name for one in deploy.missing(pretend, wanted)] == ["my model.gguf"]


def test_here_everything_stays_where_it_is(engine: Path) -> None:
    here = LocalTransport("here")
    wanted = items(here, engine)

    assert deploy.missing(here, wanted) == []
    assert deploy.place_of(here, wanted[-1]) == str(engine / "my model.gguf")


def test_too_little_space_for_all_of_it_is_said_first(
    pretend: EmulatedTransport, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretend, "free_bytes", lambda folder: 7000)

    with pytest.raises(SpaceError, match="are to be sent, but"):
        deploy.require_space(pretend, deploy.missing(pretend, items(pretend, engine)))


def test_what_has_arrived_already_needs_no_space(
    pretend: EmulatedTransport, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = items(pretend, engine)[-1:]
    part = Path(beside(wanted[0].remote, ".part"))
    part.parent.mkdir(parents=True)
    part.write_bytes(b"weights" * 900)
    monkeypatch.setattr(pretend, "free_bytes", lambda folder: 700)

    absent = deploy.missing(pretend, wanted)
    deploy.require_space(pretend, absent)
    deploy.place(pretend, absent, lambda item: nullcontext(lambda done, total: None))

    assert deploy.missing(pretend, wanted) == []
