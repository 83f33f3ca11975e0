"""A llama-server on a device's own loopback, reached by a forwarded port; never left behind."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from plm_edge.chat import server
from plm_edge.device.process import Finished, Running
from plm_edge.device.transport import Transport
from plm_edge.engine.library import CRASH_ENVIRONMENT
from plm_edge.errors import DeviceError, PlmEdgeError

_POLL_SECONDS = 0.1
_LAST_LINES = 40
# From a server's end to ours knowing of it; a busy device takes its time over that.
_DYING_SECONDS = 10


@dataclass(frozen=True)
class FarServer:
    """A running server; `url` is where it is found from here."""

    transport: Transport
    running: Running
    url: str
    said: deque[str]

    def wait_until_ready(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """True once it answers, False when stopped before; our error if it ended."""
        with httpx2.Client(base_url=self.url, timeout=5, trust_env=False) as client:
            while not should_stop():
                self.check()
                if _is_healthy(client):
                    return True
                time.sleep(_POLL_SECONDS)
        return False

    def wait_until_stopped(self, should_stop: Callable[[], bool]) -> None:
        """Return when told to stop; our error if the server ends by itself, or the wire."""
        while not should_stop():
            self.check()
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raise our error if the server has ended."""
        if not self.running.is_running():
            raise self.reason()

    def reason(self) -> PlmEdgeError:
        """Why it ended: what the far side told, or that the wire broke."""
        try:
            code = self.running.wait()
        except PlmEdgeError as error:
            return error
        if code == 0:
            return DeviceError(f"{self.transport.name}: the server ended")
        said = self.running.stderr or "\n".join(self.said)
        return self.transport.error_of(Finished(self.running.argv, code, "", said))

    def explain(self, error: Exception) -> PlmEdgeError:
        """Our error for a request that failed; a server that is dying gets a moment to be dead."""
        deadline = time.monotonic() + _DYING_SECONDS
        while self.running.is_running() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if not self.running.is_running():
            return self.reason()
        return DeviceError(f"{self.transport.name}: the server does not answer: {error}")


@contextmanager
def serving(
    transport: Transport, words: list[str], far_port: int, near_port: int
) -> Iterator[FarServer]:
    """Within, the server that `words` start listens there on `far_port`, here on `near_port`."""
    said: deque[str] = deque(maxlen=_LAST_LINES)
    with transport.start(words, env=CRASH_ENVIRONMENT) as running:
        drain = threading.Thread(target=lambda: said.extend(running.lines()), daemon=True)
        drain.start()
        with transport.forward(far_port, near_port) as port:
            yield FarServer(transport, running, f"http://127.0.0.1:{port}", said)


@dataclass(frozen=True)
class Placement:
    """How weights lie in the device's memory, and which cores to stay on; none: any."""

    load_mode: str = "mmap"
    cores: Sequence[int] = ()
    repacks: bool = True
    is_verbose: bool = False


def command(
    tool: str, model: str, options: server.ServeOptions, placement: Placement = Placement()
) -> list[str]:
    """The command line there: memory is spent as it was planned, and on nothing else."""
    words = server.command(tool, model, options)
    # One slow core holds all others up: threads must not wander there.
    mask = sum(1 << core for core in placement.cores)
    words += ["--cpu-mask", hex(mask), "--cpu-strict", "0"] if mask else []
    words += [] if placement.repacks else ["--no-repack"]
    # At this level the engine tells which buffers it makes, and how large.
    words += ["--verbosity", "4"] if placement.is_verbose else []
    # The server would keep old prompts in memory of their own, by default up to 8 GB.
    return [*words, "--cache-ram", "0", "--load-mode", placement.load_mode]


def _is_healthy(client: httpx2.Client) -> bool:
    try:
        return client.get("/health").status_code == httpx2.codes.OK
    except (httpx2.HTTPError, OSError):  # nobody listens yet
        return False
