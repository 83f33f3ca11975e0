"""The source tree a build folder compiles: brought up to date file by file.

Only files that differ are written, so that ninja recompiles what a patch changed and no more.
"""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from plm_edge.engine import patches, source
from plm_edge.engine.plan import BuildPlan
from plm_edge.engine.source import Notify, silent

# Two thirds of the tree, and nothing CMake looks at (0.3.36).
NOT_COMPILED = frozenset({"docs", "media", "models"})
STAMP_NAME = ".plm-edge-source"


def write_tree(plan: BuildPlan, target: Path, notify: Notify = silent) -> None:
    """Write the plan's source as the new folder `target`: unpacked, and patched for `edge`."""
    _write(plan, target, source.everything, notify)


def _write(
    plan: BuildPlan, target: Path, is_wanted: Callable[[PurePosixPath], bool], notify: Notify
) -> None:
    pin = plan.patch_set.pin
    source.unpack(source.fetch(pin, notify), pin, target, is_wanted)
    if plan.variant == "edge":
        patches.apply_all(plan.patch_set, target)


def compiled_part(plan: BuildPlan) -> Callable[[PurePosixPath], bool]:
    """Says of a path whether a build folder needs it: no documents, unless a patch touches them."""
    patched = {name for patch in plan.patch_set.patches for name in patch.files}
    return lambda path: path.parts[0] not in NOT_COMPILED or str(path) in patched


def bring_up_to_date(plan: BuildPlan, target: Path, notify: Notify = silent) -> None:
    """Make the folder `target` equal to the plan's source, touching only what differs."""
    stamp = target / STAMP_NAME
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == plan.key:
        return
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".src-") as scratch:
        fresh = Path(scratch) / "src"
        _write(plan, fresh, compiled_part(plan), notify)
        if target.exists():
            sync(fresh, target)
        else:
            fresh.rename(target)
    stamp.write_text(plan.key, encoding="utf-8")


def sync(fresh: Path, target: Path) -> None:
    """Make `target` equal to `fresh`; equal files keep their time stamps."""
    wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    present = {path.relative_to(target) for path in target.rglob("*") if path.is_file()}
    for name in present - wanted:
        (target / name).unlink()
    for name in wanted:
        old, new = target / name, fresh / name
        if name in present and filecmp.cmp(new, old, shallow=False):
            continue
        old.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(new, old)
        shutil.copymode(new, old)
