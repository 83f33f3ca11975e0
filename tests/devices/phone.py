"""A virtual phone: Android's adbd, toybox and mksh on a Linux kernel, shell user, no glibc."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.devices import debian, machine, store
from tests.devices.machine import Board, Disk, Machine

FORM = "1"  # part of the disk's key: count up when a change here changes the disk
_ADBD = Path(__file__).parent / "adbd"
_HEADERS = (
    *("android-libbase-dev", "android-liblog-dev", "android-libcutils-dev"),
    *("android-libboringssl-dev", "libcap-dev", "libstdc++-12-dev", "libc6-dev"),
)
# What toybox would take from Android's own libraries, and the commands that then make no sense.
_TOYBOX_OFF = (
    *("TOYBOX_SELINUX", "TOYBOX_LIBCRYPTO", "TOYBOX_LIBZ", "GETENFORCE", "SETENFORCE"),
    *("LOAD_POLICY", "RESTORECON", "RUNCON", "CHCON", "LOG", "SENDEVENT"),
)
_BUILD_PROP = """ro.product.manufacturer=plm-edge
ro.product.model=virtual phone
ro.product.device=virt
ro.product.cpu.abi=arm64-v8a
ro.product.cpu.abilist=arm64-v8a
ro.build.version.release=14
ro.build.version.sdk=34
"""
# Android's own C library knows these by heart; toybox is linked to another one here.
_PASSWD = "root:x:0:0::/:/system/bin/sh\nshell:x:2000:2000::/:/system/bin/sh\n"
_GETPROP = """#!/system/bin/sh
[ $# -eq 0 ] && exec sed 's/\\(.*\\)=\\(.*\\)/[\\1]: [\\2]/' /system/build.prop
while IFS='=' read -r key value; do
    [ "$key" = "$1" ] && { echo "$value"; exit; }
done </system/build.prop
echo "$2"
"""


@dataclass(frozen=True)
class AdbServer:
    """An adb server of its own: neither the user's devices nor the user's keys."""

    port: int
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs so that its `adb` talks to this server."""
        return {
            "HOME": str(self.home),
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "0",  # no search for emulators
        }

    def adb(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run Debian's client, past plm-edge."""
        return subprocess.run(
            ["adb", *words],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )

    def state_of(self, serial: str) -> str:
        """`device`, `offline`, `unauthorized`, or empty when it is not there."""
        for line in self.adb("devices").stdout.splitlines():
            name, _, state = line.partition("\t")
            if name == serial:
                return state
        return ""


@dataclass(frozen=True)
class VirtualPhone:
    """A running phone, known to its adb server as `serial`."""

    machine: Machine
    server: AdbServer

    @property
    def serial(self) -> str:
        """What `adb devices` calls it."""
        return f"127.0.0.1:{self.machine.port}"

    def plug_in(self) -> None:
        """Connect it to the server, as a cable does."""
        self.server.adb("connect", self.serial)

    def unplug(self) -> None:
        """Take it from the server, as a pulled cable does: at once, in the middle of anything."""
        self.server.adb("disconnect", self.serial)

    def authorize(self) -> None:
        """Answer "Allow USB debugging?" with yes."""
        key = (self.server.home / ".android" / "adbkey.pub").read_text().strip()
        for start in range(0, len(key), 200):  # a console line holds fewer characters than the key
            self.machine.root_shell(f"printf %s '{key[start : start + 200]}' >>/data/key")
        self.machine.root_shell(
            "cat /data/key >>/data/misc/adb/adb_keys; echo >>/data/misc/adb/adb_keys"
        )


def image() -> Path:
    """The folder with the phone's `disk`."""
    texts = (_BUILD_PROP, _GETPROP, _PASSWD)
    return store.made("phone", [FORM, str(programs()), *texts], _make_disk)


def programs() -> Path:
    """The folder with `toybox`, `sh` and the folder `adbd` (with its libraries)."""
    inputs = [FORM, debian.SUITE, *_HEADERS, *_TOYBOX_OFF, *sorted(_ADBD.iterdir())]
    return store.made("phone-programs", inputs, _make_programs)


def _make_programs(target: Path) -> None:
    debian.require("clang", "ld.lld", "make")
    with tempfile.TemporaryDirectory(dir=target) as name:
        work = Path(name)
        debian.extract(work / "sysroot", _HEADERS)
        _make_adbd(target / "adbd", work)
        _make_toybox(target / "toybox", work)
        debian.extract(work / "mksh", ["mksh"])
        musl = work / "mksh" / "usr" / "lib" / "aarch64-linux-musl"
        shutil.copy(musl / "bin" / "mksh", target / "sh")


def _make_adbd(target: Path, work: Path) -> None:
    source = work / "adbd"
    source.mkdir()
    tree = debian.source(source, "android-platform-tools", patched=True)
    places = [f"TREE={tree}", f"SYSROOT={work / 'sysroot'}", f"OUT={source / 'out'}"]
    debian.run(["make", "-j2", "-f", _ADBD / "Makefile", *places])
    target.mkdir()
    shutil.copy(source / "out" / "adbd", target / "adbd")
    _copy_libraries(target / "adbd", work / "sysroot", target)


def _copy_libraries(program: Path, sysroot: Path, target: Path) -> None:
    """Copy the loader and every library `program` needs, and theirs, into `target`."""
    usual = (
        "lib/aarch64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "usr/lib/aarch64-linux-gnu/android",
    )
    waiting = [program]
    while waiting:
        text = debian.run(["readelf", "-d", waiting.pop()])
        for line in text.splitlines():
            name = line.rpartition("[")[2].rstrip("]")
            if "(NEEDED)" in line and not (target / name).exists():
                found = next(p for part in usual if (p := sysroot / part / name).exists())
                shutil.copy(found, target / name)
                waiting.append(target / name)


def _make_toybox(target: Path, work: Path) -> None:
    source = work / "toybox"
    source.mkdir()
    tree = debian.source(source, "toybox", patched=False)
    debian.run(["make", "android_defconfig"], cwd=tree)
    config = tree / ".config"
    lines = config.read_text()
    for name in _TOYBOX_OFF:
        lines = lines.replace(f"CONFIG_{name}=y\n", f"# CONFIG_{name} is not set\n")
    config.write_text(lines)
    compiler = source / "cross-cc"
    compiler.write_text(
        "#!/bin/sh\nexec clang --target=aarch64-linux-gnu -fuse-ld=lld "
        f'--sysroot={shlex.quote(str(work / "sysroot"))} "$@"\n'
    )
    compiler.chmod(0o755)
    debian.run(
        ["make", "toybox", "HOSTCC=cc", f"CC={compiler}", "LDFLAGS=-static", "NOSTRIP=1"], cwd=tree
    )
    shutil.copy(tree / "toybox", target)


def _make_disk(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target) as name:
        _make_root(Path(name))
        machine.make_disk(target / "disk", Path(name), megabytes=512)


def _make_root(tree: Path) -> None:
    debian.require("qemu-aarch64")
    for part in ("dev", "proc", "sys", "system/bin", "data/local/tmp", "data/misc/adb", "sdcard"):
        (tree / part).mkdir(parents=True)
    (tree / "bin").symlink_to("system/bin")
    commands = tree / "system" / "bin"
    shutil.copy(programs() / "toybox", commands / "toybox")
    shutil.copy(programs() / "sh", commands / "sh")
    for name in debian.run(["qemu-aarch64", commands / "toybox"]).split():
        (commands / name).symlink_to("toybox")
    (commands / "getprop").write_text(_GETPROP)
    for path in commands.iterdir():
        if not path.is_symlink():
            path.chmod(0o755)
    (tree / "etc").mkdir()
    (tree / "etc" / "passwd").write_text(_PASSWD)
    (tree / "etc" / "group").write_text("root:x:0:\nshell:x:2000:\ninet:x:3003:\n")
    (tree / "system" / "build.prop").write_text(_BUILD_PROP)
    (tree / "data" / "local" / "tmp").chmod(0o771)


@contextmanager
def adb_server(home: Path) -> Iterator[AdbServer]:
    """An adb server with its own port and keys; it ends with the block."""
    debian.require("adb", "setpriv")
    home.mkdir(parents=True, exist_ok=True)
    server = AdbServer(machine.free_port(), home)
    with (home / "adb.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "adb", "nodaemon", "server"],
            env={**os.environ, **server.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield server
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(
    server: AdbServer, board: Board | None = None, *, is_secure: bool = False
) -> Iterator[VirtualPhone]:
    """A phone plugged in; a secure one stays unauthorized until `authorize`."""
    made = image()
    disk = Disk(initrd=machine.initrd("phone", programs() / "adbd"), root=made / "disk", port=5555)
    wanted = "unauthorized" if is_secure else "device"
    with machine.running(disk, board or Board(), f"device.secure={int(is_secure)}") as vm:
        phone = VirtualPhone(vm, server)
        vm.wait(lambda: _is_plugged_in(phone, wanted))
        yield phone


def _is_plugged_in(phone: VirtualPhone, wanted: str) -> bool:
    state = phone.server.state_of(phone.serial)
    if state != wanted:
        phone.unplug()
        phone.plug_in()
    return state == wanted
