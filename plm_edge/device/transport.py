"""One interface for every wire: run a program there, push a file, pull a file.

A kind of wire says how a shell line gets to the far side, what its own failures mean, and how a
port there is reached from here. All else is derived from that once, here.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from posixpath import join
from typing import IO

from plm_edge.console import Progress, no_progress
from plm_edge.device import exit_status, supervise
from plm_edge.device.process import Finished, Running, close_pipes, end_wire, open_wire
from plm_edge.device.push import Pushed, Pusher, local_sha256
from plm_edge.errors import DeviceError, PlmEdgeError
from plm_edge.paths import atomic_path, read_error

OnLine = Callable[[str], None]

_CHUNK_BYTES = 1 << 20
_FREE_SPACE = 'd=$1; while [ ! -d "$d" ]; do d=${d%/*}; [ "$d" ] || d=/; done; df -Pk "$d"'


class Transport(ABC):
    """A wire to a device; use as a context manager, or call `close`.

    `name` is what messages call the device. Paths on the far side are absolute.
    """

    is_emulated = False

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def folder(self) -> str:
        """The absolute path of our folder on the far side; it may not exist yet."""

    @abstractmethod
    def wire(self, line: str) -> list[str]:
        """The command that runs the shell line `line` on the far side."""

    @abstractmethod
    def wire_error(self, status: int, stderr: str) -> DeviceError:
        """Our error for a wire that ended with `status` before the far side told its own."""

    @abstractmethod
    def forward(self, port: int, near: int = 0) -> AbstractContextManager[int]:
        """Within, a port on this machine's loopback that leads to `port` on the far side's.

        It is `near` if that is not 0. Where there is no far side it is `port` itself.
        """

    def program(self, argv: Sequence[str]) -> list[str]:
        """`argv` as the far side must start it; an emulator puts itself in front."""
        return list(argv)

    def close(self) -> None:  # noqa: B027 - most wires keep nothing open
        """Take the wire down."""

    def path(self, *parts: str) -> str:
        """A path in our folder there."""
        return join(self.folder, *parts)

    def error_of(self, finished: Finished) -> PlmEdgeError:
        """The error of a program that ended with a status other than 0."""
        return exit_status.error_of(self.name, finished)

    # Running

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Running:
        """Start a program; it ends with the returned handle, with this process, or the wire."""
        line = supervise.watched_line(self._words(argv, env))
        return Running(argv, self.wire(line), self.wire_error)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Finished:
        """Run a program to its end; each line of its stdout also goes to `on_line` as it comes.

        With `check` an exit status other than 0 is an error in our words. `DeviceError` if the
        wire breaks or `timeout` seconds pass. Whatever ends this call ends the program.
        """
        lines: list[str] = []
        with self.start(argv, env=env) as running, _deadline(running, timeout) as is_late:
            for line in running.lines():
                lines.append(line)
                if on_line is not None:
                    on_line(line)
            code = 0 if is_late() else running.wait()
            if is_late():
                raise DeviceError(f"{self.name}: {shlex.join(argv)}: no end after {timeout:g} s")
        finished = Finished(tuple(argv), code, "".join(f"{x}\n" for x in lines), running.stderr)
        if check and code != 0:
            raise self.error_of(finished)
        return finished

    def feed(self, argv: Sequence[str], write: Callable[[IO[bytes]], None]) -> None:
        """Run a program whose stdin is whatever `write` writes; it ends when that ends."""
        process = open_wire(self.wire(supervise.fed_line(argv)))
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # its reason comes on stderr
                write(process.stdin)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdin = None
            stdout, stderr = process.communicate()
        finally:
            end_wire(process)
            close_pipes(process)
        said, code = supervise.split_status(stderr.decode("utf-8", "replace"))
        if code is None:
            raise self.wire_error(process.returncode, said)
        if code != 0:
            text = stdout.decode("utf-8", "replace")
            raise self.error_of(Finished(tuple(argv), code, text, said))

    def _words(self, argv: Sequence[str], env: Mapping[str, str] | None) -> list[str]:
        settings = [f"{key}={value}" for key, value in (env or {}).items()]
        words = self.program(argv)
        return ["env", *settings, *words] if settings else words

    # Files

    def push(
        self,
        local: Path,
        remote: str,
        progress: Progress = no_progress,
        *,
        is_executable: bool = False,
    ) -> Pushed:
        """Bring a file there: only if it differs, from where it stopped, whole or not at all."""
        return Pusher(self, local, remote, is_executable).run(progress)

    def send(self, local: Path, remote: str, offset: int, progress: Progress) -> None:
        """Append what follows `offset` in `local` to the far file `remote`."""
        total = local.stat().st_size

        def write(sink: IO[bytes]) -> None:
            with _opened(local) as source:
                source.seek(offset)
                while chunk := source.read(_CHUNK_BYTES):
                    sink.write(chunk)
                    progress(source.tell(), total)

        self.feed(["sh", "-c", 'exec cat >> "$1"', "sh", remote], write)

    def pull(self, remote: str, local: Path, progress: Progress = no_progress) -> None:
        """Fetch a file, compared by sha256, whole or not at all."""
        total = self.size_bytes(remote)
        if total is None:
            raise DeviceError(f"{self.name}: {remote}: no such file")
        with atomic_path(local) as temporary:
            self._receive(remote, temporary, total, progress)
            if local_sha256(temporary) != self.sha256(remote):
                raise DeviceError(f"{self.name}: {remote}: arrived damaged", hint="try it again")

    def _receive(self, remote: str, local: Path, total: int, progress: Progress) -> None:
        with self.start(["cat", remote]) as running, local.open("wb") as sink:
            while chunk := running.read(_CHUNK_BYTES):
                sink.write(chunk)
                progress(sink.tell(), total)
            code = running.wait()
        if code != 0:
            raise self.error_of(Finished(running.argv, code, "", running.stderr))

    # Derived

    def exists(self, remote: str) -> bool:
        """Whether there is such a file or folder."""
        return self.run(["test", "-e", remote], check=False).code == 0

    def size_bytes(self, remote: str) -> int | None:
        """The size of a file; None if there is none."""
        done = self.run(["stat", "-c", "%s", remote], check=False)
        return int(done.stdout) if done.code == 0 else None

    def sha256(self, remote: str) -> str | None:
        """The sha256 of a file; None if there is none."""
        done = self.run(["sha256sum", remote], check=False)
        # A name with a backslash or a line feed makes the tool put a backslash in front.
        return done.stdout.removeprefix("\\").split()[0] if done.code == 0 else None

    def read_text(self, remote: str) -> str | None:
        """A small file's text; None if it cannot be read."""
        done = self.run(["cat", remote], check=False)
        return done.stdout if done.code == 0 else None

    def free_bytes(self, remote: str) -> int:
        """What a user may still write where the folder `remote` is, or would be."""
        last = self.run(["sh", "-c", _FREE_SPACE, "sh", remote]).stdout.splitlines()[-1]
        try:
            return int(last.split()[3]) * 1024
        except (IndexError, ValueError) as error:
            raise DeviceError(f"{self.name}: df said {last!r}") from error

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _deadline(running: Running, seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Within, `running` is ended after `seconds`; the yielded function tells whether it was."""
    late = threading.Event()

    def ring() -> None:
        late.set()
        running.hang_up()

    timer = threading.Timer(seconds, ring) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield late.is_set
    finally:
        if timer is not None:
            timer.cancel()


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise read_error(path, error) from error
