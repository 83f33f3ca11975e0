"""A server started as on a device: ready, failing, and gone at the end."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest

from plm_edge.chat import far_server, server
from plm_edge.chat.server import ServeOptions
from plm_edge.device.local import LocalTransport
from plm_edge.engine.cache import Engine
from plm_edge.errors import PlmEdgeError, ToolError


def words_for(engine: Engine, model: Path, port: int) -> list[str]:
    options = ServeOptions("127.0.0.1", port, 512, 1, 1, "f16", "my $(id) 'model'")
    return far_server.command(str(engine.tool("llama-server")), str(model), options, "mmap")


@pytest.mark.engine
def test_it_answers_and_is_gone_afterwards(engine: Engine, scripted: Path) -> None:
    port = server.free_port("127.0.0.1", 0)
    words = words_for(engine, scripted, port)
    with far_server.serving(LocalTransport("kitchen"), words, port, port) as there:
        assert there.wait_until_ready()
        models = httpx2.get(f"{there.url}/v1/models", trust_env=False).json()
        assert models["data"][0]["id"] == "my $(id) 'model'"

    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.engine
def test_a_stop_while_loading_is_heard(engine: Engine, scripted: Path) -> None:
    port = server.free_port("127.0.0.1", 0)
    words = words_for(engine, scripted, port)
    with far_server.serving(LocalTransport("kitchen"), words, port, port) as there:
        assert not there.wait_until_ready(lambda: True)


@pytest.mark.engine
def test_a_server_that_cannot_start_says_why(engine: Engine, tmp_path: Path) -> None:
    port = server.free_port("127.0.0.1", 0)
    words = words_for(engine, tmp_path / "missing.gguf", port)
    with (
        far_server.serving(LocalTransport("kitchen"), words, port, port) as there,
        pytest.raises(ToolError, match=r"(?s)kitchen: .*missing\.gguf"),
    ):
        there.wait_until_ready()


@pytest.mark.engine
def test_a_port_in_use_there_is_told(engine: Engine, scripted: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = words_for(engine, scripted, port)
        with (
            far_server.serving(LocalTransport("kitchen"), words, port, port) as there,
            pytest.raises(PlmEdgeError, match="kitchen: "),
        ):
            there.wait_until_ready()


def test_memory_goes_where_it_was_planned() -> None:
    options = ServeOptions("127.0.0.1", 8080, 512, 2, 4, "q8_0", "m")

    words = far_server.command("/d/llama-server", "/d/m.gguf", options, "mmap+mlock")

    assert words[words.index("--cache-ram") + 1] == "0"
    assert words[words.index("--load-mode") + 1] == "mmap+mlock"
    assert words[words.index("--ctx-size") + 1] == "1024"
