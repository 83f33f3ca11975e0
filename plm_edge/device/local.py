"""This machine as a device: no wire at all, so that everything above a wire can be tried here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plm_edge import paths
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError


class LocalTransport(Transport):
    """Runs shell lines with this machine's shell, in a folder of the cache."""

    @property
    def folder(self) -> str:
        return str(paths.cache_dir().absolute() / "devices" / self.name)

    def wire(self, line: str) -> list[str]:
        return ["/bin/sh", "-c", line]

    def wire_error(self, status: int, stderr: str) -> DeviceError:
        said = stderr.strip().splitlines()
        why = said[-1] if said else f"its shell ended with status {status}"
        return DeviceError(f"{self.name}: {why}")

    @contextmanager
    def forward(self, port: int, near: int = 0) -> Iterator[int]:
        yield port
