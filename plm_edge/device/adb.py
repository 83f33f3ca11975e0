"""A phone reached by adb, over USB or the network, as its shell user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from plm_edge import shell
from plm_edge.device import wire_words
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError, PlmEdgeError

# Before Android 7 adb told no exit status and mixed the streams.
_SHELL_FEATURE = "shell_v2"


class AdbTransport(Transport):
    """Talks to one phone: the one named, or the only one there is."""

    def __init__(self, name: str, serial: str | None, folder: str) -> None:
        super().__init__(name)
        self._wanted = serial
        self._folder = folder

    @property
    def folder(self) -> str:
        return self._folder

    @cached_property
    def serial(self) -> str:
        """The phone's serial; `DeviceError` unless it can be used right now."""
        serial = self._chosen()
        features = self._adb("-s", serial, "features").split()
        if _SHELL_FEATURE not in features:
            raise DeviceError(f"{self.name}: its adb is too old; Android 7 or newer is needed")
        return serial

    def wire(self, line: str) -> list[str]:
        return ["adb", "-s", self.serial, "shell", "-T", line]

    def wire_error(self, status: int, stderr: str) -> DeviceError:
        return wire_words.adb_error(self.name, self._wanted or "SERIAL", stderr)

    @contextmanager
    def forward(self, port: int, near: int = 0) -> Iterator[int]:
        told = self._adb("-s", self.serial, "forward", f"tcp:{near}", f"tcp:{port}")
        near = near or int(told)
        try:
            yield near
        finally:
            with suppress(PlmEdgeError):  # adb forgets it by itself when the phone goes away
                self._adb("-s", self.serial, "forward", "--remove", f"tcp:{near}")

    def _chosen(self) -> str:
        states = parse_devices(self._adb("devices"))
        if self._wanted is not None:
            if self._wanted not in states and ":" in self._wanted:
                # A phone on the network is forgotten when adb's server restarts.
                self._adb("connect", self._wanted)
                states = parse_devices(self._adb("devices"))
            return self._usable(self._wanted, states.get(self._wanted, "not found"))
        if len(states) > 1:
            names = ", ".join(states)
            error = wire_words.adb_error(self.name, "", "more than one device")
            raise DeviceError(f"{error.message}: {names}", hint=error.hint)
        if not states:
            raise wire_words.adb_error(self.name, "", "no devices")
        return self._usable(*next(iter(states.items())))

    def _usable(self, serial: str, state: str) -> str:
        if state == "device":
            return serial
        raise wire_words.adb_state_error(self.name, serial, state)

    def _adb(self, *words: str) -> str:
        done = shell.capture(["adb", *words], check=False)
        if done.exit_status != 0:
            raise self.wire_error(done.exit_status, done.stderr or done.stdout)
        return done.stdout.strip()


def parse_devices(text: str) -> dict[str, str]:
    """Serial → state, from what `adb devices` prints; its own remarks are left out."""
    found = {}
    for line in text.splitlines():
        serial, tab, state = line.partition("\t")
        if tab and serial.strip():
            found[serial.strip()] = state.strip()
    return found
