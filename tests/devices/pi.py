"""A virtual Raspberry Pi: Debian's arm64 kernel and programs, user `pi`, sshd."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.devices import debian, machine, store
from tests.devices.machine import Board, Disk, Machine

HOST = "raspberrypi.local"
FORM = "1"  # part of the disk's key: count up when a change here changes the disk
# What Raspberry Pi OS Lite has of what plm-edge may call there.
_PACKAGES = (
    *(
        "bash",
        "busybox-static",
        "coreutils",
        "dash",
        "findutils",
        "grep",
        "gzip",
        "libc-bin",
        "mawk",
    ),
    *(
        "mount",
        "openssh-server",
        "openssh-sftp-server",
        "procps",
        "rsync",
        "sed",
        "tar",
        "util-linux",
    ),
)
_PASSWD = """root:x:0:0:root:/root:/bin/bash
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
pi:x:1000:1000::/home/pi:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
# Where time counts instructions, a second of waiting is over at once: no limit for logging in.
_SSHD = """Port 22
LoginGraceTime 0
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
UsePAM no
StrictModes no
Subsystem sftp /usr/lib/openssh/sftp-server
"""


@dataclass(frozen=True)
class VirtualPi:
    """A running Pi and the folder with the programs and keys that reach it."""

    machine: Machine
    bin_dir: Path

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there as `pi`, past plm-edge, to look at what it left."""
        words = [str(self.bin_dir / "ssh"), HOST, command]
        return subprocess.run(words, capture_output=True, text=True, check=False)


def image() -> Path:
    """The folder with the Pi's `disk`, host key and login key."""
    return store.made("pi", [FORM, debian.SUITE, *_PACKAGES, _PASSWD, _SSHD], _make)


def _make(target: Path) -> None:
    debian.require("ssh")
    tree = target / "tree"
    debian.extract(tree, _PACKAGES)
    _write_accounts(tree)
    for name in ("host", "login"):
        debian.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", target / name])
    shutil.copy(target / "host", tree / "etc" / "ssh" / "ssh_host_ed25519_key")
    shutil.copy(target / "login.pub", tree / "home" / "pi" / ".ssh" / "authorized_keys")
    machine.make_disk(target / "disk", tree, megabytes=1024)
    shutil.rmtree(tree)


def _write_accounts(tree: Path) -> None:
    for part in ("dev", "proc", "sys", "mnt", "run", "tmp", "root", "home/pi/.ssh", "etc/ssh"):
        (tree / part).mkdir(parents=True, exist_ok=True)
    (tree / "etc" / "passwd").write_text(_PASSWD)
    (tree / "etc" / "group").write_text("root:x:0:\npi:x:1000:\nnogroup:x:65534:\n")
    (tree / "etc" / "shadow").write_text("pi:*:19000::::::\nsshd:*:19000::::::\n")
    (tree / "etc" / "ssh" / "sshd_config").write_text(_SSHD)
    (tree / "etc" / "hosts").write_text("127.0.0.1 localhost raspberrypi\n")
    (tree / "etc" / "hostname").write_text("raspberrypi\n")
    sh = tree / "bin" / "sh"
    if not sh.exists():  # dash's link is made by a script that is not run here
        sh.symlink_to("dash")


@contextmanager
def running(
    folder: Path, board: Board | None = None, more: Path | None = None
) -> Iterator[VirtualPi]:
    """A Pi that answers to raspberrypi.local, by the `ssh` and `scp` put into `folder`.

    The file system `more` is mounted there under /mnt.
    """
    made = image()
    disk = Disk(initrd=machine.initrd("pi"), root=made / "disk", port=22, more=more)
    with machine.running(disk, board or Board()) as vm:
        vm.wait(lambda: _greets(vm.port))
        yield VirtualPi(vm, _write_client(folder, made, vm.port))


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as wire:
            wire.settimeout(0.5)
            return wire.recv(4) == b"SSH-"
    except OSError:
        return False


def _write_client(folder: Path, made: Path, port: int) -> Path:
    """ssh and scp as the user would have configured them in ~/.ssh, which no variable can move."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "login"
    shutil.copy(made / "login", key)
    key.chmod(0o600)
    host_key = " ".join((made / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"{HOST} {host_key}\n")
    (folder / "config").write_text(
        f"Host {HOST}\nHostName 127.0.0.1\nPort {port}\nUser pi\nHostKeyAlias {HOST}\n"
        f'IdentityFile "{key}"\nIdentitiesOnly yes\nUserKnownHostsFile "{folder / "known_hosts"}"\n'
        "GlobalKnownHostsFile /dev/null\n"
    )
    bin_dir = folder / "bin"
    bin_dir.mkdir(exist_ok=True)
    for name in ("ssh", "scp", "sftp"):
        real = shutil.which(name)
        own_ssh = f" -S {shlex.quote(str(bin_dir / 'ssh'))}" if name != "ssh" else ""
        config = shlex.quote(str(folder / "config"))
        script = bin_dir / name
        script.write_text(f'#!/bin/sh\nexec {real} -F {config}{own_ssh} "$@"\n')
        script.chmod(0o755)
    return bin_dir
