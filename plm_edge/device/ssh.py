"""A device reached by ssh: one connection, shared by everything this process does there.

Never asks: BatchMode, and a host key that is unknown or changed is refused. Files go by rsync
where both sides have it, else through the connection itself, which can go on half way as well;
scp could not.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from posixpath import join
from subprocess import DEVNULL, run
from typing import IO

from plm_edge.console import Progress
from plm_edge.device import wire_words
from plm_edge.device.process import Finished, close_pipes, open_wire
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError, PlmEdgeError
from plm_edge.shell import missing_tool

CONNECT_SECONDS = 10
# A wire that is silent for this long is taken for broken, on both ends.
_ALIVE_SECONDS, _ALIVE_COUNT = 10, 3
_LINGER_SECONDS = 60
_SOCKETS_PREFIX = "plm-edge-ssh-"
_RSYNC_WIRE_STATUSES = (10, 12, 30, 35, 255)
_RSYNC_PROGRESS = re.compile(rb"\s*(\d+)\s+\d+%")


@dataclass(frozen=True)
class SshAddress:
    """How to log in; what is None is left to the user's own ssh settings."""

    host: str
    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    config_file: Path | None = None

    @property
    def destination(self) -> str:
        """`user@host`, as ssh takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def options(self) -> list[str]:
        """The flags for every ssh to this address."""
        words = ["-F", str(self.config_file)] if self.config_file else []
        words += ["-p", str(self.port)] if self.port else []
        words += ["-i", str(self.identity_file)] if self.identity_file else []
        settings = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": CONNECT_SECONDS,
            "ServerAliveInterval": _ALIVE_SECONDS,
            "ServerAliveCountMax": _ALIVE_COUNT,
            "LogLevel": "ERROR",
            "RemoteCommand": "none",
            "ForwardX11": "no",
        }
        return words + [
            word for key, value in settings.items() for word in ("-o", f"{key}={value}")
        ]


class SshTransport(Transport):
    """Talks through one shared ssh connection, made when it is first needed."""

    def __init__(self, name: str, address: SshAddress, folder: str) -> None:
        super().__init__(name)
        self._address = address
        self._folder = folder
        self._sockets: Path | None = None

    @cached_property
    def folder(self) -> str:
        """Ours there; one that is not absolute is under the user's home."""
        if self._folder.startswith("/"):
            return self._folder
        home = self.run(["sh", "-c", 'printf %s "$HOME"']).stdout.strip()
        return join(home, self._folder)

    def wire(self, line: str) -> list[str]:
        return [*self._ssh(), "-T", "--", self._address.destination, line]

    def wire_error(self, status: int, stderr: str) -> DeviceError:
        port = f" -p {self._address.port}" if self._address.port else ""
        return wire_words.ssh_error(self.name, self._address.host, port, stderr)

    @contextmanager
    def forward(self, port: int, near: int = 0) -> Iterator[int]:
        near = near or _free_port()
        route = f"127.0.0.1:{near}:127.0.0.1:{port}"
        self._control("forward", "-L", route)
        try:
            yield near
        finally:
            with suppress(PlmEdgeError):  # the connection may be gone, and the forward with it
                self._control("cancel", "-L", route)

    def send(self, local: Path, remote: str, offset: int, progress: Progress) -> None:
        if self._has_rsync:
            self._rsync(local, remote, progress)
        else:
            super().send(local, remote, offset, progress)

    def close(self) -> None:
        if self._sockets is not None:
            with suppress(PlmEdgeError):
                self._control("exit")
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    # The shared connection

    def _ssh(self) -> list[str]:
        """ssh with the flags that make it use the shared connection, which is made if need be."""
        if self._sockets is None:
            _sweep()
            self._sockets = Path(tempfile.mkdtemp(prefix=_SOCKETS_PREFIX))
            try:
                self._connect()
            except BaseException:
                shutil.rmtree(self._sockets, ignore_errors=True)
                self._sockets = None
                raise
        return ["ssh", *self._address.options(), *self._socket_flags("no")]

    def _socket_flags(self, master: str) -> list[str]:
        assert self._sockets is not None
        # ssh expands % and splits at blanks here; a name made by mkdtemp has neither.
        return ["-o", f"ControlMaster={master}", "-o", f"ControlPath={self._sockets / 'wire'}"]

    def _connect(self) -> None:
        words = ["ssh", *self._address.options(), *self._socket_flags("yes"), "-f", "-N"]
        words += ["-o", f"ControlPersist={_LINGER_SECONDS}", "--", self._address.destination]
        # Into a file: the connection stays open in the background and would keep a pipe open.
        with tempfile.TemporaryFile() as said:
            try:
                done = run(
                    words,
                    check=False,
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=said,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise missing_tool("ssh") from error
            said.seek(0)
            text = said.read().decode("utf-8", "replace")
        if done.returncode != 0:
            raise self.wire_error(done.returncode, text)

    def _control(self, *words: str) -> None:
        command = [*self._ssh(), "-O", *words, "--", self._address.destination]
        done = run(command, check=False, stdin=DEVNULL, capture_output=True)
        if done.returncode != 0:
            raise self.wire_error(done.returncode, done.stderr.decode("utf-8", "replace"))

    # rsync

    @cached_property
    def _has_rsync(self) -> bool:
        if shutil.which("rsync") is None:
            return False
        return self.run(["sh", "-c", "command -v rsync"], check=False).code == 0

    def _rsync(self, local: Path, remote: str, progress: Progress) -> None:
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        user = f"{self._address.user}@" if self._address.user else ""
        words = ["rsync", "--inplace", "--protect-args", f"--timeout={_ALIVE_SECONDS * 6}"]
        words += ["--copy-links"]  # download caches are full of links; rsync would skip one
        words += ["--info=progress2", "--no-human-readable", "-e", shlex.join(self._ssh())]
        words += ["--", str(local.absolute()), f"{user}{host}:{remote}"]
        process = open_wire(words)
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            _report(process.stdout, local.stat().st_size, progress)
            said = process.stderr.read().decode("utf-8", "replace")
            status = process.wait()
        finally:
            process.terminate()
            process.wait()
            close_pipes(process)
        if status in _RSYNC_WIRE_STATUSES and "No space left" not in said:
            raise self.wire_error(status, said)
        if status != 0:
            raise self.error_of(Finished(("rsync", remote), status, "", said))


def _report(stream: IO[bytes], total: int, progress: Progress) -> None:
    """Read rsync's progress, lines that overwrite each other, to its end."""
    while chunk := stream.read1(1 << 16):  # type: ignore[attr-defined]
        for line in re.split(rb"[\r\n]", chunk):
            if found := _RSYNC_PROGRESS.match(line):
                progress(int(found[1]), total)


def _sweep() -> None:
    """Take away the empty folders of processes that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SOCKETS_PREFIX}*"):
        with suppress(OSError):
            # A younger one may be in use: its owner is about to connect.
            if time.time() - folder.stat().st_mtime > 10 * _LINGER_SECONDS:
                folder.rmdir()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
