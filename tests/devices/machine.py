"""One virtual arm64 machine: booted by qemu, watched, unplugged and ended by the tests.

It sees no network but the one port forwarded from this machine's loopback, and its disk's changes
are forgotten when it ends.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.devices import debian, store

GUEST = Path(__file__).parent / "guest"


@dataclass(frozen=True)
class Board:
    """The hardware: `cpu` is qemu's name, and `is_counting` makes guest time count instructions."""

    cpu: str = "cortex-a76"
    cores: int = 1
    memory_mb: int = 1024
    is_counting: bool = False


@dataclass(frozen=True)
class Disk:
    """What a device boots: an initrd that makes it what it is, and its root file system."""

    initrd: Path
    root: Path
    port: int  # the service the tests reach it by
    more: Path | None = None  # a second file system, read-only


def initrd(role: str, extra: Path | None = None) -> Path:
    """The initrd of `role`, a script of `guest/`, with the folder `extra` in it."""
    debian.require("cpio")
    inputs = [GUEST / "init", GUEST / role, str(debian.kernel()), str(extra)]
    return store.made(f"{role}-start", inputs, lambda to: _make_initrd(to, role, extra)) / "initrd"


def _make_initrd(target: Path, role: str, extra: Path | None) -> None:
    kernel = debian.kernel()
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        for part in ("bin", "dev", "proc", "sys"):
            (tree / part).mkdir()
        shutil.copy(kernel / "busybox", tree / "bin" / "busybox")
        shutil.copytree(kernel / "modules", tree / "modules")
        present = [
            Path(n).name for n in debian.MODULES if (tree / "modules" / Path(n).name).exists()
        ]
        (tree / "modules" / "order").write_text("\n".join(present) + "\n")
        shutil.copy(GUEST / "init", tree / "init")
        (tree / "init").chmod(0o755)
        shutil.copy(GUEST / role, tree / "device")
        if extra is not None:
            shutil.copytree(extra, tree / extra.name)
        names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        with (target / "initrd").open("wb") as sink:
            subprocess.run(
                ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"],
                input=names.encode(),
                stdout=sink,
                cwd=tree,
                check=True,
            )


def make_disk(target: Path, tree: Path, megabytes: int) -> None:
    """Write an ext4 image of `tree`; it is sparse."""
    debian.require("mke2fs")
    debian.run(
        ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", tree, target, f"{megabytes}M"]
    )


class Machine:
    """A running virtual machine; `port` on 127.0.0.1 reaches its service."""

    def __init__(self, disk: Disk, board: Board, options: str = "") -> None:
        debian.require("qemu-system-aarch64", "setpriv")
        # A short path: a socket's name may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="plm-device-"))
        self.port = free_port()
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in self._command(disk, board, options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _command(self, disk: Disk, board: Board, options: str) -> list[str | Path]:
        console = f"socket,id=console,path={self.folder}/console,server=on,wait=off"
        network = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:{disk.port}"
        return [
            # The machine ends with the test process, however that ends.
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-aarch64"),
            *(
                "-M",
                "virt",
                "-cpu",
                board.cpu,
                "-smp",
                str(board.cores),
                "-m",
                str(board.memory_mb),
            ),
            *(("-icount", "shift=0,sleep=off") if board.is_counting else ()),
            *("-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-kernel", debian.kernel() / "vmlinuz", "-initrd", disk.initrd),
            *("-append", f"quiet panic=-1 device.now={int(time.time())} {options}"),
            *("-drive", f"if=none,id=disk,file={disk.root},format=raw,snapshot=on"),
            *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
            *(_second_disk(disk.more) if disk.more else ()),
            *("-netdev", network, "-device", "virtio-net-pci,netdev=net,id=nic,romfile="),
            *(
                "-chardev",
                f"{console},logfile={self.folder}/console.log",
                "-serial",
                "chardev:console",
            ),
            *("-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"),
        ]

    def wait(self, is_ready: Callable[[], bool], seconds: float = 180) -> None:
        """Wait until `is_ready`; an end of the machine before that is told with its console."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the virtual device did not start:\n{self.console_text()}")
            time.sleep(0.1)

    def console_text(self) -> str:
        """What qemu and the guest said so far."""
        files = (self.folder / "qemu.log", self.folder / "console.log")
        return "".join(p.read_text(errors="replace") for p in files if p.exists())

    def root_shell(self, command: str, seconds: float = 60) -> str:
        """Run a command as root on the device's console and return what it printed."""
        mark = f"done-{time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(seconds)
            wire.connect(str(self.folder / "console"))
            # The quotes keep the echo of this line from looking like its end.
            wire.sendall(f"\n{command}\necho {mark[:4]}''{mark[4:]}\n".encode())
            heard = b""
            while f"{mark}".encode() not in heard:
                heard += wire.recv(4096)
        return heard.decode(errors="replace").rsplit(mark, 1)[0]

    def set_plugged(self, is_plugged: bool) -> None:
        """Pull the network cable, or put it back."""
        with socket.socket(socket.AF_UNIX) as wire:
            wire.settimeout(10)
            wire.connect(str(self.folder / "qmp"))
            stream = wire.makefile("rw")
            stream.readline()
            for order in (
                {"execute": "qmp_capabilities"},
                {"execute": "set_link", "arguments": {"name": "nic", "up": is_plugged}},
            ):
                stream.write(json.dumps(order) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    if "error" in answer:
                        raise RuntimeError(str(answer))

    def stop(self) -> None:
        """End the machine as a pulled power plug does, and delete its folder."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _second_disk(image: Path) -> list[str]:
    drive = f"if=none,id=more,file={image},format=raw,readonly=on"
    return ["-drive", drive, "-device", "virtio-blk-pci,drive=more"]


@contextmanager
def running(disk: Disk, board: Board, options: str = "") -> Iterator[Machine]:
    """A machine that is ended with the block."""
    machine = Machine(disk, board, options)
    try:
        yield machine
    finally:
        machine.stop()


def free_port() -> int:
    """A TCP port of the loopback nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
