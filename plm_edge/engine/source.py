"""The upstream source: fetched through pip, checked by hash, unpacked without trusting it."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from plm_edge import paths, shell
from plm_edge.engine.upstream import Pin
from plm_edge.errors import InputError, MissingToolError, ToolError

Notify = Callable[[str], None]
"""Told in one sentence what happens next."""

UNPACKED_LIMIT_BYTES = 1 << 30  # the 0.3.36 tree is 174 MB
# Without it pip would configure the binding's whole C++ build just to learn the package's name.
PIP_ENVIRONMENT = {"CMAKE_ARGS": "-DLLAMA_BUILD=OFF", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def silent(message: str) -> None:
    """The `Notify` of somebody who does not want to know."""


def downloads_dir() -> Path:
    """Where source distributions are kept; a file put here by hand serves as well."""
    return paths.cache_dir() / "downloads"


def sources_dir() -> Path:
    """Where unpacked trees are kept."""
    return paths.cache_dir() / "sources"


def stock_tree_path(pin: Pin) -> Path:
    """Where the pin's unpacked tree is, or will be."""
    return sources_dir() / pin.sha256[:16]


def fetch(pin: Pin, notify: Notify = silent) -> Path:
    """The pinned sdist, its hash checked; asked of pip unless it lies in the cache."""
    target = downloads_dir() / pin.sdist
    if target.is_file():
        if sha256(target) == pin.sha256:
            return target
        notify(f"{target}: not the pinned file, fetched again")
    notify(f"fetching {pin.requirement} (source) with pip")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pip-") as scratch:
            found = _pip_download(pin, Path(scratch))
            check_hash(found, pin)
            found.replace(target)
    except OSError as error:
        raise paths.write_error(target, error) from error
    return target


def pip(words: Sequence[str]) -> None:
    """Run pip of this Python: the user's index, mirror, proxy and credentials are respected."""
    if importlib.util.find_spec("pip") is None:
        raise MissingToolError(
            f"pip is not installed for {sys.executable}",
            hint=shell.quote([sys.executable, "-m", "ensurepip"]),
        )
    shell.capture([sys.executable, "-m", "pip", *words, "--no-input", "-q"], env=PIP_ENVIRONMENT)


def _pip_download(pin: Pin, folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    # A hash in the requirement makes pip check the file before it runs any code of it.
    wanted.write_text(f"{pin.requirement} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    words = ["download", "--no-deps", "--no-binary", pin.package, "--require-hashes"]
    try:
        pip([*words, "-r", str(wanted), "-d", str(folder)])
    except ToolError as error:
        raise ToolError(
            f"cannot fetch {pin.requirement}: {error.message}",
            hint=f"without a network, put {pin.sdist} into {downloads_dir()}",
        ) from error
    found = folder / pin.sdist
    if not found.is_file():
        raise InputError(f"pip fetched no {pin.sdist} for {pin.requirement}")
    return found


def check_hash(path: Path, pin: Pin) -> None:
    """Raise `InputError` unless `path` is the pinned file."""
    actual = sha256(path)
    if actual != pin.sha256:
        raise InputError(f"{path.name}: sha256 {actual}, expected {pin.sha256}")


def sha256(path: Path) -> str:
    """The hex sha256 of a file's content."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise paths.read_error(path, error) from error
    return digest.hexdigest()


def everything(path: PurePosixPath) -> bool:
    """The filter of somebody who wants the whole tree."""
    return True


def unpack(
    sdist: Path, pin: Pin, target: Path, is_wanted: Callable[[PurePosixPath], bool] = everything
) -> None:
    """Write the pinned tree of `sdist`, or what `is_wanted` of it, as the new folder `target`.

    Only regular files of that tree are written; a path that escapes, a link or a device is an
    `InputError`. `.git` is left out: in the sdist it points into a repository that is not there,
    and git would follow it.
    """
    partial = Path(f"{target}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with tarfile.open(sdist, "r:gz") as archive:
            members = _members(archive, sdist, pin)
            names = [_write(archive, *pair, partial) for pair in members if is_wanted(pair[1])]
        if not names:
            raise InputError(f"{sdist}: no {pin.tree} in it")
        partial.rename(target)
    except (tarfile.TarError, EOFError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"{sdist}: not a whole .tar.gz file: {error}") from error
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise paths.write_error(target, error) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _members(
    archive: tarfile.TarFile, sdist: Path, pin: Pin
) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Every file of the pinned tree with its path there; anything unsafe is an error."""
    inside = PurePosixPath(pin.sdist.removesuffix(".tar.gz")) / pin.tree
    size_bytes = 0
    for member in archive:
        path = _safe_path(member, sdist)
        if not path.is_relative_to(inside) or ".git" in path.parts or member.isdir():
            continue
        if not member.isfile():
            raise InputError(f"{sdist}: {member.name!r} is a link or a device, refused")
        size_bytes += member.size
        if size_bytes > UNPACKED_LIMIT_BYTES:
            raise InputError(f"{sdist}: more than {UNPACKED_LIMIT_BYTES} bytes unpacked")
        yield member, path.relative_to(inside)


def _safe_path(member: tarfile.TarInfo, sdist: Path) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"{sdist}: {member.name!r} leads out of the archive, refused")
    return path


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath, folder: Path
) -> PurePosixPath:
    content = archive.extractfile(member)
    assert content is not None  # a regular file has one
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
    return path


def stock_tree(pin: Pin, notify: Notify = silent) -> Path:
    """The unpatched tree, unpacked once per pin and kept; read it, do not write into it."""
    target = stock_tree_path(pin)
    if not target.is_dir():
        from plm_edge.engine.lock import locked

        with locked(target.with_suffix(".lock"), lambda: notify("waiting for another unpack")):
            if not target.is_dir():
                unpack(fetch(pin, notify), pin, target)
    return target
