"""What the virtual devices are made of, kept by content in a cache folder of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


def folder() -> Path:
    """$PLM_EDGE_TEST_DEVICES, else plm-edge-test-devices under the XDG cache folder."""
    if value := os.environ.get("PLM_EDGE_TEST_DEVICES"):
        return Path(value)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "plm-edge-test-devices"


def made(name: str, inputs: Sequence[str | Path], make: Callable[[Path], None]) -> Path:
    """The folder `make` filled for these inputs (texts and files), made once, whole or not at all.

    Older versions of the same name are deleted when a new one is made.
    """
    top = folder()
    top.mkdir(parents=True, exist_ok=True)
    target = top / f"{name}-{_digest(inputs)}"
    with (top / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        _sweep(top, name)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=top))
        try:
            make(temporary)
            temporary.chmod(0o755)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target


def _sweep(top: Path, name: str) -> None:
    for old in [*top.glob(f"{name}-" + "?" * 16), *top.glob(f".{name}.?*")]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)


def _digest(inputs: Sequence[str | Path]) -> str:
    digest = hashlib.sha256()
    for item in inputs:
        content = item.read_bytes() if isinstance(item, Path) else item.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]
