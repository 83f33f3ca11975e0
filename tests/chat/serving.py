"""Starts `plm-edge serve` as a person would, and talks to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tests.chat.terminal import plm_edge


@dataclass(frozen=True)
class Running:
    """A `plm-edge serve` that answers, and what it said about itself."""

    process: subprocess.Popen[str]
    base_url: str
    page: str | None

    @property
    def root(self) -> str:
        """The server's address without the API's path."""
        return self.base_url.removesuffix("/v1")

    def server_pid(self) -> int:
        """The process id of llama-server."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def busy_slots(self) -> int:
        """How many conversations are being computed."""
        with urlopen(f"{self.root}/slots", timeout=60) as reply:
            return sum(slot["is_processing"] for slot in json.load(reply))


@contextlib.contextmanager
def serving(file: Path, environment: Mapping[str, str], *flags: str) -> Iterator[Running]:
    """Serve `file` on a free port; ended with SIGTERM, and killed if that does not help."""
    command = plm_edge("serve", str(file), "--port", "0", "--threads", "1", "--json", *flags)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield Running(process, **_announcement(process))
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(120)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _announcement(process: subprocess.Popen[str]) -> dict[str, str | None]:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            document = json.loads(text)
            return {"base_url": document["base_url"], "page": document["page"]}
    raise AssertionError(f"the server ended with {process.wait()}: {text}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_for(condition: object, seconds: float = 60) -> bool:
    """Whether `condition()` becomes true in time."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
