"""Giving disk back: outdated engines, what killed builds left, and on request everything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plm_edge import paths
from plm_edge.engine import cache, cross, patches, source, ui, zig
from plm_edge.engine.lock import held_if_free, is_locked
from plm_edge.engine.plan import BuildPlan


@dataclass(frozen=True)
class Leftover:
    """Something that can go: where, how big, why."""

    path: Path
    size_bytes: int
    reason: str


def find(*, everything: bool = False) -> list[Leftover]:
    """What `remove` may delete; `everything` includes what is current."""
    if everything:
        return [_leftover(path, "all of it was asked for") for path in _contents()]
    plans = [served.plan for served in cross.all_plans(patches.load())]
    return [*_outdated(plans), *_half_done()]


def remove(leftovers: list[Leftover]) -> list[Leftover]:
    """Delete them and return those that are gone; a build folder in use stays."""
    return [leftover for leftover in leftovers if _remove(leftover.path)]


def _contents() -> Iterator[Path]:
    for folder in (cache.engines_dir(), cache.builds_dir(), ui.ui_dir(), *_source_dirs()):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if _may_go(path))


def _may_go(path: Path) -> bool:
    return path.suffix != ".lock" and not (path.name.startswith(".") and _is_building())


def _is_building() -> bool:
    # A temporary folder may belong to a build that runs right now.
    return any(is_locked(lock) for lock in paths.cache_dir().glob("*/*.lock"))


def _source_dirs() -> tuple[Path, ...]:
    return source.downloads_dir(), source.sources_dir(), zig.toolchains_dir()


def _outdated(plans: list[BuildPlan]) -> Iterator[Leftover]:
    pins = [plan.patch_set.pin for plan in plans]
    current = {
        cache.engines_dir(): {plan.key for plan in plans},
        cache.builds_dir(): {plan.slot for plan in plans},
        source.downloads_dir(): {pin.sdist for pin in pins},
        source.sources_dir(): {source.stock_tree_path(pin).name for pin in pins},
        zig.toolchains_dir(): {zig.pin().name, zig.CACHE_NAME},
    }
    for folder, names in current.items():
        for path in sorted(folder.glob("[!.]*")):
            if path.suffix in (".lock", ".part"):
                continue
            if path.name not in names:
                yield _leftover(path, "outdated")
            elif folder == cache.engines_dir() and cache.find(path.name) is None:
                yield _leftover(path, "damaged")


def _half_done() -> Iterator[Leftover]:
    if _is_building():
        return
    patterns = ("engines/.part-*", "builds/*/.src-*", "*/.pip-*", "sources/*.part")
    for pattern in (*patterns, "ui/.npm-*"):
        for path in sorted(paths.cache_dir().glob(pattern)):
            yield _leftover(path, "left by a build that was killed")


def _leftover(path: Path, reason: str) -> Leftover:
    files = [path] if path.is_file() else path.rglob("*")
    size_bytes = sum(file.lstat().st_size for file in files if not file.is_dir())
    return Leftover(path, size_bytes, reason)


def _remove(path: Path) -> bool:
    with held_if_free(path.with_suffix(".lock"), needed=path.parent == cache.builds_dir()) as free:
        if not free:
            return False
        try:
            path.unlink() if path.is_file() else shutil.rmtree(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise paths.write_error(path, error) from error
    return True
