"""The zig compiler: a pinned wheel, installed by pip into the cache, and scripts cmake can call.

It needs no root, brings its own libc and C++ library, and makes static binaries for any 64-bit ARM.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from plm_edge import paths, resources, schema, shell
from plm_edge.engine import source
from plm_edge.engine.lock import locked
from plm_edge.engine.source import Notify, silent
from plm_edge.errors import InputError, ToolError

# The wheel and what it unpacks to (0.15.2 on x86-64).
INSTALL_BYTES = 500_000_000
TARGET = "aarch64-linux-musl"
CACHE_NAME = "zig-cache"
# cmake wants a program for each job; zig is one program with sub-commands.
_TOOLS = {"clang": "cc", "clang++": "c++", "ar": "ar", "ranlib": "ranlib"}
_OBJECTS_NAME = "zig-objects"
# Named by the script's own place: its text must be the same in every build folder.
_OWN_CACHE = f'export ZIG_LOCAL_CACHE_DIR="${{0%/*}}/{_OBJECTS_NAME}"'
# cmake says -march, as compilers usually have it; zig refuses that word.
_CPU_WORDS = """for word do
  shift
  case $word in -march=*) word=-mcpu=${word#-march=} ;; esac
  set -- "$@" "$word"
done"""


@dataclass(frozen=True)
class Pin:
    """`devices/toolchains/zig.toml`: a release of the wheel, and its hash on each platform."""

    package: str
    version: str
    sha256: tuple[str, ...]

    def __post_init__(self) -> None:
        for digest in self.sha256:
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise ValueError(f"sha256 = {digest!r}, expected 64 lower-case hex digits")

    @property
    def name(self) -> str:
        """Release and version, as keys and folders show it."""
        return f"{self.package}-{self.version}"

    @property
    def requirement(self) -> str:
        """The line for pip: it takes a wheel only if one of the hashes is the wheel's."""
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in self.sha256)
        return f"{self.package}=={self.version} {hashes}"


def pin() -> Pin:
    """The pin in force."""
    return schema.load(toolchain_file("zig.toml"), Pin)


def toolchain_file(name: str) -> Path:
    """A file of `devices/toolchains/`, the user's own before the shipped one."""
    for root in resources.roots():
        path = root.path / "devices" / "toolchains" / name
        if path.is_file():
            return path
    raise InputError(f"no devices/toolchains/{name}", hint="reinstall plm-edge")


def toolchains_dir() -> Path:
    """The folder of compilers that were installed for cross builds."""
    return paths.cache_dir() / "toolchains"


def ensure(wanted: Pin, notify: Notify = silent) -> Path:
    """The zig program, installed by pip unless it is in the cache."""
    folder = toolchains_dir() / wanted.name
    program = folder / "ziglang" / "zig"
    if not program.is_file():
        with locked(toolchains_dir() / f"{wanted.name}.lock", lambda: notify("waiting for zig")):
            if not program.is_file():
                _install(wanted, folder, notify)
    if not program.is_file():
        raise InputError(f"{program}: not in the wheel", hint=shell.quote(["rm", "-r", folder]))
    return program


def _install(wanted: Pin, folder: Path, notify: Notify) -> None:
    paths.require_space(folder, INSTALL_BYTES)
    notify(f"installing {wanted.package} {wanted.version} with pip, 94 MB, once")
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pip-") as scratch:
            lines = Path(scratch) / "requirements.txt"
            lines.write_text(wanted.requirement + "\n", encoding="utf-8")
            fresh = Path(scratch) / "new"
            words = ["install", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
            source.pip([*words, "--no-compile", "--target", str(fresh), "-r", str(lines)])
            fresh.rename(folder)
    except ToolError as error:
        raise ToolError(f"cannot install zig: {error.message}", hint="--toolchain gcc") from error
    except OSError as error:
        raise paths.write_error(folder, error) from error


def write_tools(program: Path, folder: Path) -> None:
    """Write the scripts that stand for C compiler, C++ compiler, ar and ranlib.

    They are the same for every CPU, which comes as `-march` to the files that depend on it: so
    ccache gives the second engine all others from the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in _TOOLS.items():
        _write_script(folder / name, program, command)


def _write_script(path: Path, program: Path, command: str) -> None:
    # zig keeps its libc and libc++ there; beside the compiler, they go when it goes.
    shared = shlex.quote(str(toolchains_dir() / CACHE_NAME))
    lines = ["#!/bin/sh", f"export ZIG_GLOBAL_CACHE_DIR={shared}", _OWN_CACHE]
    call = f"exec {shlex.quote(str(program))} {command}"
    if command in ("cc", "c++"):
        lines += [_CPU_WORDS]
        # Nobody debugs these programs, and the tables are six sevenths of an object file.
        call += f" -target {TARGET} -g0"
    path.write_text("\n".join([*lines, f'{call} "$@"', ""]), encoding="utf-8")
    path.chmod(0o755)


def forget_objects(folder: Path) -> None:
    """Drop zig's own copies of what it compiled through these scripts; the build has them."""
    shutil.rmtree(folder / _OBJECTS_NAME, ignore_errors=True)
