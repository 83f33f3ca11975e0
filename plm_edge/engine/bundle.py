"""A folder or tarball to carry: an engine's programs, a model and a script that starts them.

For devices with no network to here: a memory card, a USB stick, `adb push`, or scp by hand.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from plm_edge import paths, shell
from plm_edge.console import Progress, no_progress
from plm_edge.device.profile import Profile
from plm_edge.engine import cross, run_script, source
from plm_edge.engine.cache import MANIFEST_NAME, Engine
from plm_edge.errors import InputError, UsageError

PROGRAMS = ("llama-bench", "llama-completion", "llama-server")
SCRIPT_NAME, SUMS_NAME, NOTICES_NAME = "run.sh", "SHA256SUMS", "NOTICES.txt"
# What goes out of the house carries its licences.
_NOTICES = """\
The programs in bin/ are llama.cpp (MIT, The ggml authors; https://github.com/ggml-org/llama.cpp)
at commit {commit}{patched}, built with {compiler}.

A program built with zig contains musl (MIT, Rich Felker and others; https://musl.libc.org) and
libc++, libc++abi, libunwind and compiler-rt (Apache-2.0 with LLVM exceptions, the LLVM project;
https://llvm.org), one built with gcc glibc (LGPL-2.1 or later) and libstdc++ (GPL-3.0 with the
runtime library exception). run.sh is part of plm-edge (MIT). The model is under its own licence.
"""
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class Entry:
    """A file of the bundle: from a path, or its content right away."""

    name: str
    size_bytes: int
    path: Path | None = None
    content: bytes = b""
    is_executable: bool = False

    @property
    def mode(self) -> int:
        """Its permissions."""
        return 0o755 if self.is_executable else 0o644


@dataclass(frozen=True)
class Bundle:
    """What would be written where."""

    target: Path
    entries: tuple[Entry, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def is_tar(self) -> bool:
        """Whether it becomes one file."""
        return self.target.name.endswith(_TAR_SUFFIXES)


def plan(device: Profile, engine: Engine, model: Path, target: Path) -> Bundle:
    """The bundle of a cross-built engine and a model; nothing is written."""
    if engine.manifest.toolchain == "host":
        raise UsageError(
            "this machine's own engine is bound to its libraries and its CPU",
            hint="--device rpi5, or another one of `plm-edge device list`",
        )
    settings = run_script.Settings(
        title=f"{model.name} for {device.description}",
        model_name=model.name,
        features=cross.required_features(engine),
        big_cores=device.cpu.big_cores,
    )
    names = [name for name in PROGRAMS if (engine.bin_dir / name).is_file()]
    programs = [_file(f"bin/{name}", engine.tool(name), is_executable=True) for name in names]
    return Bundle(
        target,
        (
            replace(_text(SCRIPT_NAME, run_script.text(settings)), is_executable=True),
            *programs,
            _file(MANIFEST_NAME, engine.folder / MANIFEST_NAME),
            _text(NOTICES_NAME, _notices(engine)),
            _file(model.name, model),
        ),
    )


def _notices(engine: Engine) -> str:
    manifest = engine.manifest
    patched = ", with plm-edge's patches (MIT)" if manifest.patches else ""
    compiler = ", ".join(manifest.compiler)
    return _NOTICES.format(commit=manifest.commit, patched=patched, compiler=compiler)


def _text(name: str, text: str) -> Entry:
    content = text.encode("utf-8", "surrogateescape")
    return Entry(name, len(content), content=content)


def _file(name: str, path: Path, *, is_executable: bool = False) -> Entry:
    return Entry(name, path.stat().st_size, path, is_executable=is_executable)


def write(bundle: Bundle, progress: Progress = no_progress) -> None:
    """Write the bundle, whole or not at all; `progress` counts bytes."""
    target = bundle.target
    if target.exists():
        raise InputError(f"{target}: exists already", hint=shell.quote(["rm", "-r", target]))
    paths.require_space(target, bundle.size_bytes)
    if bundle.is_tar:
        _write_tar(bundle, progress)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as scratch:
            fresh = Path(scratch) / "new"
            _write_folder(bundle, fresh, progress)
            fresh.rename(target)
    except OSError as error:
        raise paths.write_error(target, error) from error


def _write_folder(bundle: Bundle, folder: Path, progress: Progress) -> None:
    sums, done = [], 0
    for entry in bundle.entries:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.path is None:
            path.write_bytes(entry.content)
        else:
            shutil.copyfile(entry.path, path)
        path.chmod(entry.mode)
        sums.append(f"{source.sha256(path)}  {entry.name}\n")
        done += entry.size_bytes
        progress(done, bundle.size_bytes)
    (folder / SUMS_NAME).write_text("".join(sums), encoding="utf-8", errors="surrogateescape")


def _write_tar(bundle: Bundle, progress: Progress) -> None:
    """A tar of one folder, named as the file is: weights do not compress, so by suffix only."""
    # Level 1: what there is to win is in the programs.
    mode: Literal["w", "w:gz"] = "w" if bundle.target.name.endswith(".tar") else "w:gz"
    options = {} if mode == "w" else {"compresslevel": 1}
    with paths.atomic_path(bundle.target) as temporary:
        sums, done = [], 0
        with tarfile.open(temporary, mode, **options) as archive:  # type: ignore[call-overload]
            for entry in bundle.entries:
                digest = _add(archive, bundle, entry)
                sums.append(f"{digest}  {entry.name}\n")
                done += entry.size_bytes
                progress(done, bundle.size_bytes)
            _add(archive, bundle, _text(SUMS_NAME, "".join(sums)))


def _add(archive: tarfile.TarFile, bundle: Bundle, entry: Entry) -> str:
    member = tarfile.TarInfo(f"{_stem(bundle.target)}/{entry.name}")
    member.size, member.mode = entry.size_bytes, entry.mode
    opened = io.BytesIO(entry.content) if entry.path is None else entry.path.open("rb")
    with opened as file:
        reader = _Hashing(file)
        archive.addfile(member, reader)
    return reader.digest.hexdigest()


class _Hashing:
    """Hashes what a tarball reads on the way through, so that a model is read once."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _stem(target: Path) -> str:
    return next(
        target.name.removesuffix(suffix) for suffix in _TAR_SUFFIXES if target.name.endswith(suffix)
    )


def listing(bundle: Bundle) -> Sequence[dict[str, object]]:
    """What is in it, for people and machines."""
    return [{"name": entry.name, "size_bytes": entry.size_bytes} for entry in bundle.entries]
