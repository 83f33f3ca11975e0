"""The wires that can be real on any machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.device.ssh import SshAddress, SshTransport
from tests.device import sshd as server
from tests.device.sshd import Sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A running sshd; skips with the reason where there is none."""
    if reason := server.missing():
        pytest.skip(reason)
    folder = tmp_path / "sshd"
    folder.mkdir()
    running = Sshd(folder, server.free_port())
    running.start()
    yield running
    running.stop()


@pytest.fixture
def address(sshd: Sshd) -> SshAddress:
    """How to reach `sshd`."""
    return SshAddress("127.0.0.1", sshd.user, sshd.port, config_file=sshd.config_file)


@pytest.fixture
def kitchen(address: SshAddress, tmp_path: Path) -> Iterator[SshTransport]:
    """A wire to `sshd`, with a folder there whose name is awkward."""
    with SshTransport("kitchen", address, str(tmp_path / "far $(id) 'n \"folder")) as transport:
        yield transport
