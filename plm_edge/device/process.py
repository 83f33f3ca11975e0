"""A program on the far side, seen from here: its output, its end, and how to end it."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from plm_edge.device import supervise
from plm_edge.errors import DeviceError
from plm_edge.shell import missing_tool

WireError = Callable[[int, str], DeviceError]
"""Makes our error of what ssh or adb itself said: its exit status and its stderr."""

# The far side gives a program two seconds between TERM and KILL.
STOP_SECONDS = 6.0
_STDERR_LIMIT = 1 << 20


@dataclass(frozen=True)
class Finished:
    """How a far program ended: its exit status (128 + signal as in a shell) and its output."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Running:
    """A far program under way. Leaving the `with` block, or `stop`, ends it there."""

    def __init__(self, argv: Sequence[str], wire: Sequence[str], wire_error: WireError) -> None:
        self.argv = tuple(argv)
        self._wire_error = wire_error
        self._process = open_wire(wire)
        self._said = ""
        self._hung_up = threading.Event()
        targets = (self._send_beats, self._read_stderr)
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    @property
    def stderr(self) -> str:
        """What it has said on stderr so far; only the end of it if that is very long."""
        return supervise.split_status(self._said)[0]

    def lines(self) -> Iterator[str]:
        """Each line of its stdout as it comes, without the line end."""
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            yield raw.decode("utf-8", "replace").rstrip("\r\n")

    def read(self, size_bytes: int) -> bytes:
        """The next bytes of its stdout; none at the end."""
        assert self._process.stdout is not None
        return self._process.stdout.read(size_bytes)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; `DeviceError` if the wire broke before it could be told.

        Raises `subprocess.TimeoutExpired` if it still runs then.
        """
        wire_status = self._process.wait(timeout)
        self._clean_up()
        stderr, status = supervise.split_status(self._said)
        if status is None:
            raise self._wire_error(wire_status, stderr)
        return status

    def hang_up(self) -> None:
        """Tell the far side to end it, and wait until it has; its output can still be read."""
        self._hung_up.set()
        end_wire(self._process)

    def stop(self) -> None:
        """End it on the far side; harmless when it has ended."""
        self.hang_up()
        self._clean_up()

    def _clean_up(self) -> None:
        self._hung_up.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        close_pipes(self._process)

    def _send_beats(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        while not self._hung_up.wait(supervise.BEAT_SECONDS):
            try:
                stdin.write(supervise.BEAT)
                stdin.flush()
            except (OSError, ValueError):  # the wire is gone, or was closed just now
                return

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            self._said = (self._said + raw.decode("utf-8", "replace"))[-_STDERR_LIMIT:]

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def open_wire(wire: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the near end of a wire with pipes; Ctrl-C here reaches us, not it."""
    try:
        return subprocess.Popen(
            list(wire),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise missing_tool(wire[0]) from error


def end_wire(process: subprocess.Popen[bytes]) -> None:
    """Close the wire's stdin, which ends what runs there; kill the near end if that hangs."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    if process.poll() is None:
        process.kill()
        process.wait()


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close what is left open of the three pipes of an ended process."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
