"""The server through the official openai client, and how it starts, refuses and ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

from plm_edge.chat import server
from plm_edge.chat.server import ServeOptions, free_port, is_loopback
from plm_edge.errors import InputError, SpaceError, ToolError, UsageError
from plm_edge.gguf_header import read_header
from tests.chat.scripted import Script, write_scripted
from tests.chat.serving import Running, is_alive, serving, wait_for
from tests.chat.terminal import plm_edge

OPTIONS = ServeOptions("127.0.0.1", 8080, 4096, 2, 1, "f16", "scripted")
HELLO = [{"role": "user", "content": "hello"}]


def client_of(running: Running, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=running.base_url, api_key=key, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def shared(
    endless: Path, engine: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One server for the tests that only talk to it: a model that goes on until stopped."""
    folder = Path(engine.folder).parent.parent  # type: ignore[attr-defined]
    environment = {
        "PLM_EDGE_CACHE": str(folder),
        "PLM_EDGE_STATE": str(tmp_path_factory.mktemp("state")),
        "PLM_EDGE_CONFIG": str(tmp_path_factory.mktemp("config")),
    }
    with serving(endless, environment, "--no-ui", "--ctx", "100000") as running:
        yield running


@pytest.fixture
def client(shared: Running) -> Iterator[openai.OpenAI]:
    with client_of(shared) as talking:
        yield talking


def stream(client: openai.OpenAI, max_tokens: int) -> openai.Stream[object]:
    return client.chat.completions.create(  # type: ignore[call-overload,no-any-return]
        model="endless",
        messages=HELLO,
        stream=True,
        max_tokens=max_tokens,
        temperature=0,
    )


def text_of(chunk: object) -> str:
    return chunk.choices[0].delta.content or ""  # type: ignore[attr-defined]


@pytest.mark.engine
def test_the_model_is_listed_and_answers(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["endless"]
    answer = client.chat.completions.create(
        model="endless", messages=HELLO, max_tokens=4, temperature=0
    )
    assert answer.choices[0].message.content == " tick tock tick tock"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


@pytest.mark.engine
def test_an_answer_streams(client: openai.OpenAI) -> None:
    pieces = [text_of(chunk) for chunk in stream(client, 6)]
    assert [piece for piece in pieces if piece] == [" tick", " tock"] * 3


@pytest.mark.engine
def test_a_stop_text_ends_the_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="endless", messages=HELLO, max_tokens=50, temperature=0, stop=[" tock"]
    )
    assert answer.choices[0].message.content == " tick"
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.engine
def test_two_clients_at_once(shared: Running) -> None:
    def first_words() -> str:
        with client_of(shared) as client, stream(client, 100_000) as answer:
            pieces = iter(answer)
            said = ""
            while len(said) < 20:
                said += text_of(next(pieces))
            meet.wait(120)  # neither goes on before the other has begun to get its answer
            return said

    from threading import Barrier

    meet = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        said = [future.result() for future in [pool.submit(first_words) for _ in range(2)]]
    assert all(text.startswith(" tick tock tick tock") for text in said)


@pytest.mark.engine
def test_a_disconnect_half_way_frees_the_slot(shared: Running, client: openai.OpenAI) -> None:
    with stream(client, 100_000) as answer:
        assert text_of(next(chunk for chunk in answer if text_of(chunk))) == " tick"
        assert shared.busy_slots() >= 1
    assert wait_for(lambda: shared.busy_slots() == 0)
    assert [text_of(chunk) for chunk in stream(client, 2) if text_of(chunk)] == [" tick", " tock"]


@pytest.mark.engine
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"messages": 1}', b'{"messages": [{"role": "user"}]}', b"\xff\xfe"]
)
def test_bad_json_is_an_error_and_the_server_goes_on(
    shared: Running, client: openai.OpenAI, body: bytes
) -> None:
    address = urlsplit(shared.base_url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    assert reply.status in (400, 500)
    assert b'"error"' in reply.read()
    connection.close()
    assert len(list(client.models.list())) == 1


@pytest.mark.engine
def test_an_oversized_prompt_is_refused_and_the_server_goes_on(
    with_engine: dict[str, str], scripted: Path
) -> None:
    with serving(scripted, with_engine, "--no-ui", "--ctx", "512") as running:
        with client_of(running) as client:
            with pytest.raises(openai.BadRequestError, match="exceed"):
                client.chat.completions.create(
                    model="scripted", messages=[{"role": "user", "content": "x" * 5000}]
                )
            answer = client.chat.completions.create(model="scripted", messages=HELLO)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "One two three"


@pytest.mark.engine
def test_a_key_is_demanded_and_not_on_the_command_line(
    with_engine: dict[str, str], scripted: Path
) -> None:
    environment = {**with_engine, "PLM_EDGE_API_KEY": "sesame-123"}
    with serving(scripted, environment, "--no-ui") as running:
        with client_of(running, "wrong") as thief, pytest.raises(openai.AuthenticationError):
            thief.chat.completions.create(model="scripted", messages=HELLO)  # type: ignore[arg-type]
        with client_of(running, "sesame-123") as owner:
            answer = owner.chat.completions.create(model="scripted", messages=HELLO)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "One two three"
        command = Path(f"/proc/{running.server_pid()}/cmdline").read_bytes()
        assert b"llama-server" in command
        assert b"sesame" not in command


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both_even_while_answering(
    with_engine: dict[str, str], endless: Path, number: signal.Signals
) -> None:
    with serving(endless, with_engine, "--no-ui", "--ctx", "50000") as running:
        pid = running.server_pid()
        with client_of(running) as client, stream(client, 40_000) as answer:
            next(iter(answer))
            running.process.send_signal(number)
            assert running.process.wait(60) == 0
        assert not is_alive(pid)


@pytest.mark.engine
def test_a_killed_parent_leaves_no_server_behind(
    with_engine: dict[str, str], scripted: Path
) -> None:
    with serving(scripted, with_engine, "--no-ui") as running:
        pid = running.server_pid()
        assert is_alive(pid)
        running.process.kill()
        running.process.wait()
        assert wait_for(lambda: not is_alive(pid))


@pytest.mark.engine
def test_a_server_that_ends_by_itself_is_an_error(
    with_engine: dict[str, str], scripted: Path
) -> None:
    with serving(scripted, with_engine, "--no-ui") as running:
        os.kill(running.server_pid(), signal.SIGKILL)
        assert running.process.wait(60) == 1


@pytest.mark.engine
def test_web_pages_of_others_may_not_talk_to_a_local_server(shared: Running) -> None:
    address = urlsplit(shared.base_url)
    allowed = {}
    for origin in ("http://evil.example", "http://localhost:3000"):
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        connection.request("GET", "/v1/models", headers={"Origin": origin})
        allowed[origin] = connection.getresponse().headers.get("Access-Control-Allow-Origin")
        connection.close()
    assert allowed["http://localhost:3000"] == "http://localhost:3000"
    assert allowed["http://evil.example"] in (None, "")


def test_a_port_in_use_is_one_line(scripted: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            plm_edge("serve", str(scripted), "--port", str(port)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"plm-edge: port {port} on 127.0.0.1 is in use"
    assert "--port" in done.stderr.splitlines()[1]


def test_port_0_is_a_free_one() -> None:
    port = free_port("127.0.0.1", 0)
    assert 1024 <= port <= 65535
    assert free_port("127.0.0.1", port) == port


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(InputError, match=f"--host {host}"):
        free_port(host, 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def options(**changes: object) -> ServeOptions:
    return ServeOptions(**{**vars(OPTIONS), **changes})


def test_open_means_reachable_by_others_without_a_key() -> None:
    assert not OPTIONS.is_open
    assert options(host="0.0.0.0").is_open
    assert not options(host="0.0.0.0", api_key="k").is_open


def test_the_url_is_one_a_browser_can_open() -> None:
    assert options(host="0.0.0.0").url == "http://127.0.0.1:8080"
    assert options(host="::").url == "http://[::1]:8080"


def test_each_conversation_gets_the_context_asked_for() -> None:
    words = server.command(Path("llama-server"), Path("m.gguf"), options(parallel=3))
    assert words[words.index("--ctx-size") + 1] == str(3 * 4096)
    assert "--no-ui" in words
    assert "--cors-origins" in words
    assert "--cors-origins" not in server.command(Path("s"), Path("m"), options(host="0.0.0.0"))


def test_the_environment_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_TOOLS", "all")
    monkeypatch.setenv("LLAMA_API_KEY", "somebody's")
    plain = server.environment({"LD_LIBRARY_PATH": "/lib"}, OPTIONS)
    assert "LLAMA_ARG_TOOLS" not in plain
    assert "LLAMA_API_KEY" not in plain
    assert plain["LD_LIBRARY_PATH"] == "/lib"
    assert server.environment({}, options(api_key="k"))["LLAMA_API_KEY"] == "k"


def test_what_would_fail_later_fails_before_the_start(tmp_path: Path) -> None:
    broken = write_scripted(tmp_path / "broken.gguf", Script(template="{% for %}"))
    with pytest.raises(InputError, match=r"broken\.gguf: chat template: line 1"):
        server.check(read_header(broken), OPTIONS)
    good = read_header(write_scripted(tmp_path / "good.gguf"))
    server.check(good, OPTIONS)
    with pytest.raises(SpaceError, match="needs"):
        server.check(good, options(context_tokens=10**10))
    with pytest.raises(UsageError, match="--api-key"):
        server.check(good, options(api_key="two words"))


def test_random_weights_say_so_in_the_model_s_name(tmp_path: Path) -> None:
    random = write_scripted(tmp_path / "r.gguf", Script(overrides={"plm_edge.random": True}))
    assert server.alias_of(read_header(random)) == "scripted (random weights)"


def test_a_tool_that_fails_shows_its_last_lines(tmp_path: Path) -> None:
    words = ["/bin/sh", "-c", "echo something went wrong; exit 3"]
    log = tmp_path / "logs/s.log"
    with server.Server(words, dict(os.environ), OPTIONS, log) as failing:
        failing.process.wait(60)
        with pytest.raises(ToolError, match=r"status 3:\nsomething went wrong\nfull log: .*s\.log"):
            failing.wait_until_ready(lambda: False)


def test_a_server_that_ignores_the_polite_request_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STOP_SECONDS", 0.3)
    words = ["/bin/sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.05; done"]
    log = tmp_path / "s.log"
    with server.Server(words, dict(os.environ), OPTIONS, log) as stubborn:
        assert wait_for(lambda: log.read_text() == "on\n")
    assert stubborn.process.returncode == -signal.SIGKILL
