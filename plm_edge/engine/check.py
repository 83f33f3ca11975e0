"""Is the patch set right: it applies at the lines it names, and the tree builds at every step."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from plm_edge import paths, shell
from plm_edge.console import Progress, no_progress
from plm_edge.engine import cache, host, patches, source
from plm_edge.engine.build import step_reader
from plm_edge.engine.lock import locked
from plm_edge.engine.patches import Patch, PatchSet
from plm_edge.engine.plan import LIBRARY_TARGETS, BuildPlan
from plm_edge.engine.source import Notify, silent
from plm_edge.errors import InputError

CHECK_BYTES = 500_000_000
_OFFSET = re.compile(r"Hunk #\d+ succeeded at \d+ \(offset .*\)")


def check_applies(patch_set: PatchSet, notify: Notify = silent) -> None:
    """Apply the whole set to a scratch copy of the source, every hunk at its line."""
    sdist = source.fetch(patch_set.pin, notify)
    with tempfile.TemporaryDirectory(prefix="plm-edge-") as scratch:
        tree = Path(scratch) / "src"
        source.unpack(sdist, patch_set.pin, tree)
        patches.copy_sources(patch_set, tree)
        for patch in patch_set.patches:
            apply_exactly(patch, tree)


def apply_exactly(patch: Patch, tree: Path) -> None:
    """Apply a patch; a hunk that git had to look for elsewhere is an error too."""
    account = patches.apply(patch, tree)
    if moved := _OFFSET.search(account):
        raise InputError(f"{patch.path}: {moved[0]}", hint="plm-edge engine patches refresh")


def check_builds(
    plan: BuildPlan, progress: Progress = no_progress, notify: Notify = silent
) -> None:
    """Compile the libraries after each patch of the plan's set, and its tests after the last.

    The failing step's `ToolError` names its log. Takes about as long as two engine builds.
    """
    host.require_tools()
    folder = cache.builds_dir() / "check"
    paths.require_space(folder, CHECK_BYTES)
    with locked(folder.with_suffix(".lock"), lambda: notify("waiting for another check")):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _build_step_by_step(plan, folder, progress, notify)
        shutil.rmtree(folder)


def _build_step_by_step(plan: BuildPlan, folder: Path, progress: Progress, notify: Notify) -> None:
    patch_set, tree = plan.patch_set, folder / "src"
    source.unpack(source.fetch(patch_set.pin, notify), patch_set.pin, tree)
    patches.copy_sources(patch_set, tree)
    for patch in patch_set.patches:
        apply_exactly(patch, tree)
        notify(f"compiling after {patch.name}")
        _compile(plan, folder, LIBRARY_TARGETS, progress)
    notify("compiling the tests")
    _compile(plan, folder, plan.test_targets, progress)


def _compile(plan: BuildPlan, folder: Path, targets: tuple[str, ...], progress: Progress) -> None:
    log, objects = folder / "build.log", str(folder / "build")
    cmake = ["cmake", "-G", "Ninja", "-S", str(folder / "src"), "-B", objects, *plan.flags]
    shell.run_logged([*cmake, f"-DCMAKE_MAKE_PROGRAM={host.ninja()}", host.ccache_flag()], log)
    ninja = [str(host.ninja()), "-C", objects, "-j", str(host.build_jobs()), *targets]
    environment = {"NINJA_STATUS": "[%f/%t] ", **host.ccache_environment(folder)}
    shell.run_logged(ninja, log, env=environment, on_line=step_reader(progress))
