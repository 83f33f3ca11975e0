"""A server started as on a device: ready, failing, and gone at the end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import httpx2
import pytest

from plm_edge.chat import far_server, preflight, server
from plm_edge.chat.far_server import Placement
from plm_edge.chat.server import ServeOptions
from plm_edge.device import memory, probe
from plm_edge.device.local import LocalTransport
from plm_edge.engine.cache import Engine
from plm_edge.errors import PlmEdgeError, ToolError
from plm_edge.gguf_header import read_header


def words_for(engine: Engine, model: Path, port: int) -> list[str]:
    options = ServeOptions("127.0.0.1", port, 512, 1, 1, "f16", "my $(id) 'model'")
    return far_server.command(str(engine.tool("llama-server")), str(model), options)


@pytest.mark.engine
def test_it_answers_and_is_gone_afterwards(engine: Engine, scripted: Path) -> None:
    port = server.free_port("127.0.0.1", 0)
    words = words_for(engine, scripted, port)
    with far_server.serving(LocalTransport("kitchen"), words, port, port) as there:
        assert there.wait_until_ready()
        models = httpx2.get(f"{there.url}/v1/models", trust_env=False, timeout=60).json()
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


@pytest.mark.engine
def test_no_more_memory_is_taken_than_was_planned(engine: Engine, endless: Path) -> None:
    header = read_header(endless)
    load = memory.Load(preflight.shape_of(header), header.size_bytes, "f16")
    plan = memory.plan("here", load, probe.probe(LocalTransport("here")), 32768)
    port = server.free_port("127.0.0.1", 0)
    options = ServeOptions("127.0.0.1", port, 32768, 1, 1, "f16", "m")
    words = far_server.command(str(engine.tool("llama-server")), str(endless), options)
    with far_server.serving(LocalTransport("here"), words, port, port) as there:
        assert there.wait_until_ready()
        body = {"prompt": "word " * 700, "n_predict": 16}
        httpx2.post(f"{there.url}/completion", json=body, trust_env=False, timeout=60)
        taken = _anonymous_bytes(port)

    assert 0 < taken <= plan.cache_bytes + plan.scratch_bytes


def _anonymous_bytes(port: int) -> int:
    """Memory of its own that the server on `port` holds."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            status = probe.table((folder / "status").read_text())
        except OSError:
            continue
        if words[0].endswith(b"llama-server") and str(port).encode() in words:
            return int(status["RssAnon"].split()[0]) * 1024
    return 0


def test_memory_goes_where_it_was_planned() -> None:
    options = ServeOptions("127.0.0.1", 8080, 512, 2, 4, "q8_0", "m")

    words = far_server.command("/d/llama-server", "/d/m.gguf", options, Placement("mmap+mlock"))

    assert words[words.index("--cache-ram") + 1] == "0"
    assert words[words.index("--load-mode") + 1] == "mmap+mlock"
    assert words[words.index("--ctx-size") + 1] == "1024"
    assert not {"--cpu-mask", "--no-repack", "--verbosity"} & set(words)
    asked = Placement(repacks=False, is_verbose=True)
    assert {"--no-repack", "--verbosity"} < set(far_server.command("s", "m", options, asked))


@pytest.mark.engine
def test_it_stays_on_the_cores_it_is_given(engine: Engine, scripted: Path) -> None:
    port = server.free_port("127.0.0.1", 0)
    options = ServeOptions("127.0.0.1", port, 512, 1, 1, "f16", "m")
    core = max(os.sched_getaffinity(0))
    tool = str(engine.tool("llama-server"))
    words = far_server.command(tool, str(scripted), options, Placement(cores=[core]))
    with far_server.serving(LocalTransport("here"), words, port, port) as there:
        assert there.wait_until_ready()
        body = {"prompt": "hello", "n_predict": 2}
        reply = httpx2.post(f"{there.url}/completion", json=body, trust_env=False, timeout=60)

    assert words[words.index("--cpu-mask") + 1] == hex(1 << core)
    assert reply.status_code == 200
