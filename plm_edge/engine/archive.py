"""An engine as one file: built once, carried to whoever has no compiler.

A .tar.gz of the engine's folder under its key. What comes in is not trusted: only plain files the
manifest names are written, each compared with its hash, and an engine for another machine must be
what its manifest says. Whoever made the archive is trusted with the code itself, as with any
program; `import --sha256` ties it to the archive that was exported.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from plm_edge import paths
from plm_edge.engine import cache, cross, source
from plm_edge.engine.cache import Engine
from plm_edge.engine.plan import Toolchain
from plm_edge.errors import InputError

UNPACKED_LIMIT_BYTES = 1 << 30
_KEY = re.compile(r"(edge|stock)-[a-z0-9]+(-[a-z0-9]+)?-[0-9a-f]{16}")
_FOLDERS = ("bin", "lib", "tests")


@dataclass(frozen=True)
class Exported:
    """A finished archive and what to compare it with elsewhere."""

    path: Path
    sha256: str
    size_bytes: int


def export(engine: Engine, target: Path) -> Exported:
    """Write `engine` as the archive `target`; equal engines make equal files."""
    engine.check()
    with (
        paths.atomic_path(target) as temporary,
        temporary.open("wb") as raw,
        # No names, owners and times of this machine: the hash tells the content alone.
        gzip.GzipFile("", "wb", 6, raw, 0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in _files(engine.folder):
            _add(archive, engine, path)
    return Exported(target, source.sha256(target), target.stat().st_size)


def _files(folder: Path) -> Iterator[Path]:
    """The manifest first, so that a reader knows at once what follows."""
    yield folder / cache.MANIFEST_NAME
    for name in _FOLDERS:
        yield from sorted(path for path in (folder / name).glob("*"))


def _add(archive: tarfile.TarFile, engine: Engine, path: Path) -> None:
    name = f"{engine.manifest.key}/{path.relative_to(engine.folder)}"
    entry = tarfile.TarInfo(name)
    if path.is_symlink():
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
        archive.addfile(entry)
        return
    content = path.read_bytes()
    entry.size, entry.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
    archive.addfile(entry, io.BytesIO(content))


def import_(archive: Path, expected_sha256: str | None = None) -> Engine:
    """Put the engine of `archive` into the cache; `InputError` and nothing written if it is bad."""
    if expected_sha256 is not None and (actual := source.sha256(archive)) != expected_sha256:
        raise InputError(f"{archive}: sha256 {actual}, expected {expected_sha256}")
    folder = cache.engines_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths.require_space(folder / "x", 4 * archive.stat().st_size)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
            fresh = Path(scratch) / "new"
            _unpack(archive, fresh)
            engine = _checked(archive, fresh)
            target = folder / engine.manifest.key
            if cache.find(target.name) is None:
                shutil.rmtree(target, ignore_errors=True)
                fresh.rename(target)
    except FileNotFoundError as error:
        raise paths.read_error(archive, error) from error
    except OSError as error:
        raise paths.write_error(folder, error) from error
    return cache.load(target)


def _unpack(archive: Path, fresh: Path) -> None:
    for name in _FOLDERS:
        (fresh / name).mkdir(parents=True)
    size_bytes, top = 0, ""
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                size_bytes += member.size
                path = PurePosixPath(member.name)
                top = top or path.parts[0]
                if size_bytes > UNPACKED_LIMIT_BYTES or not _is_expected(member, path, top):
                    raise InputError(f"{archive}: {member.name!r} does not belong in it, refused")
                _write(opened, member, fresh.joinpath(*path.parts[1:]))
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise InputError(f"{archive}: not a whole engine archive: {error}") from error
    if not (fresh / cache.MANIFEST_NAME).is_file():
        raise InputError(f"{archive}: no engine in it", hint="plm-edge engine export")


def _is_expected(member: tarfile.TarInfo, path: PurePosixPath, top: str) -> bool:
    """Whether it is KEY/manifest.json or a file or link right in one of the three folders."""
    inside = path.parts[1:]
    is_plain = not path.is_absolute() and ".." not in path.parts and path.parts[0] == top
    if not (is_plain and _KEY.fullmatch(top)):
        return False
    if inside == (cache.MANIFEST_NAME,):
        return member.isfile()
    if len(inside) != 2 or inside[0] not in _FOLDERS:
        return False
    # libx.so -> libx.so.0: a neighbour, never a way out.
    is_link = member.issym() and inside[0] == "lib" and "/" not in member.linkname
    return member.isfile() or (is_link and member.linkname not in ("", ".", ".."))


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if member.issym():
        target.symlink_to(member.linkname)
        return
    content = opened.extractfile(member)
    assert content is not None  # a regular file has one
    # "x": a second member of the same name must not write through a link of the first.
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _checked(archive: Path, fresh: Path) -> Engine:
    engine = cache.load(fresh)
    manifest = engine.manifest
    present = {
        str(path.relative_to(fresh))
        for path in fresh.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    if present != {*manifest.binaries, cache.MANIFEST_NAME}:
        raise InputError(f"{archive}: its files are not those of its manifest")
    if not _KEY.fullmatch(manifest.key):
        raise InputError(f"{archive}: {manifest.key!r} is no engine's key")
    engine.check()
    toolchain = Toolchain(manifest.toolchain, manifest.compiler, manifest.cpu)
    if cross.is_cross(toolchain):
        cross.check_programs(toolchain, sorted((fresh / "bin").iterdir()))
    return engine
