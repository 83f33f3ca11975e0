"""Events of a request, against a server that sends what the test says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from plm_edge.chat.stream import EventStream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
Serve = Callable[[Callable[[socket.socket], None]], httpx2.Client]


def read_request(wire: socket.socket) -> None:
    """Take the whole request: closing with a byte of it unread would reset the connection."""
    got = b""
    while b"\r\n\r\n" not in got:
        came = wire.recv(1 << 16)
        assert came, "the client hung up"
        got += came
    head, body = got.split(b"\r\n\r\n", 1)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(body)
    while left > 0:
        came = wire.recv(left)
        assert came, "the client hung up"
        left -= len(came)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that hands its one connection to a function."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    clients: list[httpx2.Client] = []

    def start(talk: Callable[[socket.socket], None]) -> httpx2.Client:
        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                read_request(connection)
                talk(connection)

        threads.append(threading.Thread(target=accept, daemon=True))
        threads[-1].start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        clients.append(httpx2.Client(base_url=url, trust_env=False, timeout=60))
        return clients[-1]

    yield start
    for client in clients:
        client.close()
    for thread in threads:
        thread.join(60)
    listener.close()


def test_events_come_in_order_until_the_end(serve: Serve) -> None:
    lines = b'data: {"n": 1}\n\n: a comment\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n'
    stream = EventStream(serve(lambda wire: wire.sendall(HEAD + lines)), "/x", {})

    assert [stream.next(), stream.next(), stream.next(), stream.next()] == [
        {"n": 1},
        {"n": 2},
        None,
        None,
    ]
    stream.close()


def test_a_stop_is_heard_while_nothing_comes(serve: Serve) -> None:
    gone = threading.Event()

    def wait_for_the_end(wire: socket.socket) -> None:
        wire.sendall(HEAD + b'data: {"n": 1}\n\n')
        wire.settimeout(60)
        while wire.recv(1 << 16):  # nothing: the client hung up
            pass
        gone.set()

    stream = EventStream(serve(wait_for_the_end), "/x", {})
    assert stream.next() == {"n": 1}
    started = time.monotonic()

    assert stream.next(lambda: time.monotonic() - started > 0.2) is None
    stream.close()

    assert gone.wait(60)


def test_the_first_event_may_take_its_time(serve: Serve) -> None:
    is_read = threading.Event()

    def read_for_long(wire: socket.socket) -> None:
        assert is_read.wait(60)
        wire.sendall(HEAD + b'data: {"n": 1}\n\n')

    client = serve(read_for_long)
    client.timeout = httpx2.Timeout(60, read=0.1)
    stream = EventStream(client, "/x", {})
    started = time.monotonic()

    assert stream.next(lambda: time.monotonic() - started > 0.5) is None
    is_read.set()

    assert stream.next() == {"n": 1}
    stream.close()


def test_a_connection_that_breaks_is_raised(serve: Serve) -> None:
    def half(wire: socket.socket) -> None:
        wire.sendall(HEAD.replace(b"Connection: close", b"Content-Length: 999") + b"data: {}\n\n")

    stream = EventStream(serve(half), "/x", {})
    assert stream.next() == {}

    with pytest.raises(httpx2.HTTPError):
        stream.next()
    stream.close()


def test_a_refusal_is_raised_with_its_text(serve: Serve) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nwrong"
    stream = EventStream(serve(lambda wire: wire.sendall(answer)), "/x", {})

    with pytest.raises(httpx2.HTTPStatusError) as caught:
        stream.next()

    assert caught.value.response.text == "wrong"
    stream.close()
