"""Server-sent events of one request to llama-server, read by a thread so that we can stop early.

A blocking read in the main thread could not be left on Ctrl-C. Closing the connection is what
makes the server stop computing.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx2

_POLL_SECONDS = 0.05
_END = object()


class EventStream:
    """A running request; `events` come from `next`, and `close` ends it on both sides."""

    def __init__(self, client: httpx2.Client, path: str, body: dict[str, Any]) -> None:
        self._client = client
        # Nothing comes until the prompt is read, and a slow device reads a long one for minutes.
        patient = httpx2.Timeout(client.timeout.connect, read=None)
        body = {**body, "stream": True}
        self._request = client.build_request("POST", path, json=body, timeout=patient)
        self._events: queue.Queue[Any] = queue.Queue()
        self._socket: socket.socket | None = None
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next(self, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """The next event; None at the end or when stopped. Raises what the connection raised."""
        while not should_stop():
            try:
                event = self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if event is _END:
                self._events.put(_END)
                return None
            if isinstance(event, BaseException):
                raise event
            found: dict[str, Any] = event
            return found
        return None

    def close(self) -> None:
        """End the request; what has not been read is lost."""
        self._is_closed.set()
        if self._socket is not None:
            # close() alone would leave the reading thread, and the server, waiting.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _read(self) -> None:
        try:
            response = self._client.send(self._request, stream=True)
            with contextlib.closing(response):
                network = response.extensions["network_stream"]
                self._socket = network.get_extra_info("socket")
                if response.status_code != httpx2.codes.OK:
                    response.read()
                response.raise_for_status()
                self._pass_on(response)
        except Exception as error:
            if not self._is_closed.is_set():
                self._events.put(error)
        self._events.put(_END)

    def _pass_on(self, response: httpx2.Response) -> None:
        for line in response.iter_lines():
            if self._is_closed.is_set():
                return
            if line.startswith("data: ") and line != "data: [DONE]":
                self._events.put(json.loads(line.removeprefix("data: ")))
