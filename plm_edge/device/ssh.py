"""A device reached by ssh: one connection, shared by everything this process does there.

Never asks: BatchMode, and a host key that is unknown or changed is refused. Files go by rsync
where both sides have it, else as scp sends them, by sftp, else through a shell there; each of
these goes on where an earlier attempt stopped.
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
from subprocess import DEVNULL, Popen, TimeoutExpired, run
from typing import IO

from plm_edge.console import Progress
from plm_edge.device import sftp, wire_words
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
_SFTP_LOOK_SECONDS = 2.0
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

    @property
    def bracketed(self) -> str:
        """`user@host`, as rsync and sftp take it, which read a colon as the host's end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" if self.user else host

    def options(self) -> list[str]:
        """The flags for every ssh and sftp to this address."""
        words = ["-F", str(self.config_file)] if self.config_file else []
        words += ["-o", f"Port={self.port}"] if self.port else []  # sftp has another -p
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
        elif not (self._has_sftp and self._sftp(local, remote, offset, progress)):
            # What sftp calls "Failure" has a reason when a program there runs into it.
            super().send(local, remote, self.size_bytes(remote) or 0, progress)

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
        words = ["rsync", "--inplace", "--protect-args", f"--timeout={_ALIVE_SECONDS * 6}"]
        words += ["--copy-links"]  # download caches are full of links; rsync would skip one
        words += ["--info=progress2", "--no-human-readable", "-e", shlex.join(self._ssh())]
        words += ["--", str(local.absolute()), f"{self._address.bracketed}:{remote}"]
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

    # sftp

    @cached_property
    def _has_sftp(self) -> bool:
        if shutil.which("sftp") is None:
            return False
        done = run(self._sftp_words(), check=False, stdin=DEVNULL, capture_output=True)
        return done.returncode == 0

    def _sftp_words(self) -> list[str]:
        _, *flags = self._ssh()
        return ["sftp", *flags, "-b", "-", "--", self._address.bracketed]

    def _sftp(self, local: Path, remote: str, offset: int, progress: Progress) -> bool:
        """Whether all of it has been sent; the far file then holds it."""
        order = sftp.put(local, remote, offset)
        if order is None:
            return False
        process = open_wire(self._sftp_words())
        try:
            assert process.stdin is not None
            assert process.stderr is not None
            with suppress(BrokenPipeError):
                process.stdin.write(order)
                process.stdin.close()
            self._watch_sftp(process, remote, local.stat().st_size, progress)
            said = process.stderr.read().decode("utf-8", "replace")
        finally:
            process.terminate()
            process.wait()
            close_pipes(process)
        if process.returncode == sftp.WIRE_STATUS:
            raise self.wire_error(process.returncode, said)
        return process.returncode == 0

    def _watch_sftp(
        self, process: Popen[bytes], remote: str, total: int, progress: Progress
    ) -> None:
        """Wait for its end; it tells nobody how far it is, but the far file's size does."""
        while True:
            try:
                process.wait(_SFTP_LOOK_SECONDS)
            except TimeoutExpired:
                with suppress(PlmEdgeError):  # a broken wire also ends sftp, with a status
                    progress(self.size_bytes(remote) or 0, total)
                continue
            if process.returncode == 0:
                progress(total, total)
            return


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
