"""A real sshd on this machine's loopback, run by whoever runs the tests, with keys of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.chat.serving import is_alive
from tests.device.processes import wait_for

SSHD = "/usr/sbin/sshd"

_SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/pid
PermitRootLogin yes
StrictModes no
UsePAM no
PrintMotd no
Subsystem sftp internal-sftp
SetEnv PATH={path}
"""
_CLIENT = """
Host *
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  IdentityFile "{folder}/user_key"
  IdentitiesOnly yes
"""


@dataclass
class Sshd:
    """A server in a folder of its own; `config_file` is what a client needs to reach it."""

    folder: Path
    port: int
    far_path: str = os.environ.get("PATH", "")

    @property
    def config_file(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def user(self) -> str:
        return pwd.getpwuid(os.getuid()).pw_name  # whatever $USER says

    def start(self) -> None:
        """Make what is missing, listen, and let clients know the host key."""
        for name in ("host_key", "user_key"):
            if not (self.folder / name).exists():
                self.make_key(name)
        config = _SERVER.format(port=self.port, folder=self.folder, path=self.far_path)
        (self.folder / "sshd_config").write_text(config)
        self.config_file.write_text(_CLIENT.format(folder=self.folder))
        self.trust_host_key()
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        starts = self.starts()
        words = [SSHD, "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "log")]
        # From OpenSSH 9.8 on it turns those away for a while whose connections broke.
        lenient = [*words, "-o", "PerSourcePenalties=no"]
        is_known = subprocess.run([*lenient, "-t"], capture_output=True).returncode == 0
        subprocess.run(lenient if is_known else words, check=True)
        assert wait_for(lambda: self.starts() > starts and self._has_pid()), self.log()

    def log(self) -> str:
        """What the server has said."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def starts(self) -> int:
        """How often it has begun to listen. Knocking at the port instead would leave it a
        connection, and tells nothing of a server that starts anew, or of who answers."""
        return self.log().count("Server listening")

    def make_key(self, name: str) -> None:
        for path in self.folder.glob(f"{name}*"):
            path.unlink()
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
        subprocess.run(words, check=True)

    def trust_host_key(self) -> None:
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        line = f"[127.0.0.1]:{self.port} {kind} {key}\n"
        (self.folder / "known_hosts").write_text(line)

    def _has_pid(self) -> bool:
        # It is written after "Server listening".
        path = self.folder / "pid"
        return path.exists() and path.read_text().endswith("\n")

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def connections(self) -> list[int]:
        """The process ids of the server's children: one per connection."""
        return [int(pid) for pid in _children(self.pid)]

    def drop_connections(self) -> None:
        """Cut every wire, without a word to the clients or to what runs there."""
        for pid in self.connections():
            for process in [*_children(pid), pid]:
                if "sshd" in _name(process):
                    with contextlib.suppress(ProcessLookupError):  # it left by itself just now
                        os.kill(int(process), signal.SIGKILL)

    def stop(self) -> None:
        self.drop_connections()
        server = self.pid
        os.kill(server, signal.SIGTERM)
        assert wait_for(lambda: not is_alive(server)), self.log()


def missing() -> str | None:
    """Why no sshd can be run here, if so."""
    for tool, package in (("ssh", "openssh-client"), (SSHD, "openssh-server")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install {package})"
    return None


def free_port() -> int:
    """A port nobody has, out of those that the system gives to nobody who just wants any."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first = max(first, 1 << 14)  # where those are nearly all
    while True:
        port = random.randrange(first // 2, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _children(pid: int | str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def _name(pid: int | str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
