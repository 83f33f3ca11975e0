"""Runs our llama-server: starts it, waits until it answers, and never leaves it behind."""

from __future__ import annotations

import contextlib
import errno
import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from plm_edge.chat import preflight
from plm_edge.chat.preflight import CacheType
from plm_edge.engine.library import CRASH_ENVIRONMENT
from plm_edge.errors import InputError, ToolError
from plm_edge.gguf_header import GgufHeader
from plm_edge.paths import write_error
from plm_edge.shell import failure_text

KEY_VARIABLE = "LLAMA_API_KEY"
# llama-server also takes settings from such variables; a server is what its flags say.
_FOREIGN_PREFIX = "LLAMA_ARG_"

# Nothing is lost when a server is killed; waiting longer only delays whoever pressed Ctrl-C.
STOP_SECONDS = 2.0
_POLL_SECONDS = 0.1
_TETHER = Path(__file__).with_name("tether.py")


@dataclass(frozen=True)
class ServeOptions:
    """How to serve: `context_tokens` is what each of `parallel` conversations gets."""

    host: str
    port: int
    context_tokens: int
    parallel: int
    threads: int
    cache_type: CacheType
    alias: str
    has_page: bool = False
    api_key: str | None = None
    api_key_file: Path | None = None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the server."""
        host = reachable_host(self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether people on the network can use it without a key."""
        has_key = self.api_key is not None or self.api_key_file is not None
        return not has_key and not is_loopback(self.host)


def alias_of(header: GgufHeader) -> str:
    """What clients see as the model's name; random weights say so there as well."""
    name = preflight.model_name(header)
    return f"{name} (random weights)" if header.is_random else name


def check(header: GgufHeader, options: ServeOptions) -> None:
    """Raise what would otherwise only show in the server's log."""
    tokens = options.context_tokens * options.parallel
    preflight.require_key(options.api_key, options.api_key_file)
    preflight.require_template(header)
    preflight.require_cache_memory(header, tokens, options.cache_type)


def command(tool: Path | str, model: Path | str, options: ServeOptions) -> list[str]:
    """The command line; the key is not in it, since every user can read command lines."""
    words = [
        *(str(tool), "--model", str(model), "--alias", options.alias),
        *("--host", options.host, "--port", str(options.port)),
        *("--ctx-size", str(options.context_tokens * options.parallel)),
        *("--parallel", str(options.parallel), "--threads", str(options.threads)),
        *("--cache-type-k", options.cache_type, "--cache-type-v", options.cache_type),
        "--offline",
        "--ui" if options.has_page else "--no-ui",
    ]
    if options.api_key_file is not None:
        words += ["--api-key-file", str(options.api_key_file)]
    if is_loopback(options.host):
        # Any web page the user visits could otherwise talk to a server on their own machine.
        words += ["--cors-origins", "localhost"]
    return words


def environment(engine: Mapping[str, str], options: ServeOptions) -> dict[str, str]:
    """The server's environment: ours, the engine's, the key; nobody's other settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_PREFIX)}
    inherited.pop(KEY_VARIABLE, None)
    key = {KEY_VARIABLE: options.api_key} if options.api_key is not None else {}
    return {**inherited, **engine, **key, **CRASH_ENVIRONMENT}


class Server:
    """A running llama-server; leaving the `with` block ends it."""

    def __init__(
        self, words: list[str], environment: Mapping[str, str], options: ServeOptions, log: Path
    ) -> None:
        self._words = words
        self._options = options
        self._log = log
        with _open_log(log) as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(_TETHER), str(os.getpid()), *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for this program, which then ends the server in order.
                start_new_session=True,
            )

    def wait_until_ready(self, should_stop: Callable[[], bool]) -> bool:
        """True once the server answers, False when stopped before; `ToolError` if it ended."""
        while not should_stop():
            self._check_running()
            if self._get("/health").status == http.client.OK:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def wait_until_stopped(self, should_stop: Callable[[], bool]) -> None:
        """Return when told to stop; `ToolError` if the server ends by itself."""
        while not should_stop():
            self._check_running()
            time.sleep(_POLL_SECONDS)

    def has_page(self) -> bool:
        """Whether a browser gets a page to chat on."""
        reply = self._get("/")
        return reply.status == http.client.OK and "html" in reply.content_type

    def stop(self) -> None:
        """End the server: first politely, then for good."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _check_running(self) -> None:
        status = self.process.poll()
        if status is None:
            return
        text = self._log.read_text(encoding="utf-8", errors="replace")
        reason = failure_text(self._words, status, text)
        raise ToolError(f"{reason}\nfull log: {self._log}")

    def _get(self, path: str) -> _Answer:
        host = reachable_host(self._options.host)
        connection = http.client.HTTPConnection(host, self._options.port, timeout=5)
        try:
            # The page is stored compressed, and refused to whoever cannot unpack it.
            connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
            response = connection.getresponse()
            return _Answer(response.status, response.headers.get("Content-Type", ""))
        except (OSError, http.client.HTTPException):
            return _Answer(0, "")
        finally:
            connection.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True)
class _Answer:
    status: int
    content_type: str


class StopSignals:
    """Within the block, SIGINT, SIGTERM and SIGHUP only set a flag; calling it reads the flag."""

    _NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._is_set = False

    def __call__(self) -> bool:
        return self._is_set

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._note) for number in self._NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_set = True


def free_port(host: str, port: int) -> int:
    """`port` if nobody listens on it, any free one for 0; `InputError` that says what is wrong."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does: a port that was just closed may be taken again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise _port_error(host, port, error) from error


def _port_error(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"port {port} on {host} is in use", hint="pass another --port; 0 picks a free one"
        )
    if error.errno == errno.EACCES:
        return InputError(f"port {port} is not yours to use", hint="pass a --port above 1023")
    return InputError(f"--host {host}: {error.strerror}", hint="127.0.0.1 is this machine alone")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable_host(host: str) -> str:
    """The address to use from this machine for a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _open_log(log: Path) -> IO[bytes]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb")
    except OSError as error:
        raise write_error(log, error) from error
