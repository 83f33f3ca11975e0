"""llama.cpp's own web page, built from the pinned source with npm; never a prebuilt download.

Cached by the content of its source, so that an engine rebuild does not repeat it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from plm_edge import paths, shell
from plm_edge.engine import source
from plm_edge.engine.lock import locked
from plm_edge.engine.source import Notify, silent
from plm_edge.engine.upstream import Pin
from plm_edge.errors import ToolError

SOURCE_PATH = "tools/ui"
# Where upstream's CMake looks for an already built page before it thinks of npm or a download.
DIST_PATH = "tools/ui/dist"
WORK_BYTES = 1_000_000_000  # node_modules is most of it


def is_possible() -> bool:
    """Whether npm is here to build the page with."""
    return shutil.which("npm") is not None


def ui_dir() -> Path:
    """The folder of built pages."""
    return paths.cache_dir() / "ui"


def build(pin: Pin, notify: Notify = silent) -> Path:
    """The folder with the built page of this pin: `npm ci` and build, once."""
    page = source.stock_tree(pin, notify) / SOURCE_PATH
    target = ui_dir() / _key(page, pin)
    if target.is_dir():
        return target
    shell.which("npm")
    paths.require_space(target, WORK_BYTES)
    with locked(target.with_suffix(".lock"), lambda: notify("waiting for another page build")):
        if not target.is_dir():
            notify("building the web page with npm (about 90 s)")
            _build(page, target, pin)
    return target


def _build(page: Path, target: Path, pin: Pin) -> None:
    log = target.with_suffix(".log")
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".npm-") as scratch:
        work, dist = Path(scratch) / "src", Path(scratch) / "dist"
        shutil.copytree(page, work)
        environment = {
            "LLAMA_UI_OUT_DIR": str(dist),
            "LLAMA_UI_VERSION": pin.commit[:9],
            "LLAMA_BUILD_NUMBER": str(pin.build_number),
            "CI": "1",
        }
        # Browsers for the page's own tests would be downloaded otherwise.
        environment["PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD"] = "1"
        options = ["--no-audit", "--no-fund"]
        shell.run_logged(["npm", "ci", *options], log, cwd=work, env=environment)
        shell.run_logged(["npm", "run", "build"], log, cwd=work, env=environment)
        if not (dist / "index.html").is_file():
            raise ToolError(f"npm built no index.html\nfull log: {log}")
        dist.rename(target)


def _key(page: Path, pin: Pin) -> str:
    digest = hashlib.sha256(f"{pin.commit} {pin.build_number}".encode())
    for path in sorted(path for path in page.rglob("*") if path.is_file()):
        digest.update(os.fsencode(path.relative_to(page)) + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
