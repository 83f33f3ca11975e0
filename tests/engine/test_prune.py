"""Pruning: outdated goes, current stays, what is in use stays."""

from __future__ import annotations

from pathlib import Path

from plm_edge.engine import build, cache, prune
from plm_edge.engine.lock import locked
from plm_edge.engine.plan import host_plan
from tests.engine.conftest import Mini


def names(leftovers: list[prune.Leftover]) -> set[str]:
    return {leftover.path.name for leftover in leftovers}


def make_litter(mini: Mini) -> list[Path]:
    litter = [
        mini.cache / "engines/.part-abc/new/bin",
        mini.cache / "builds/edge-host-0/.src-abc",
        mini.cache / "downloads/.pip-abc",
        mini.cache / "sources/0123.part",
        mini.cache / "ui/.npm-abc",
    ]
    for folder in litter:
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 100)
    return litter


def test_what_is_current_stays(mini: Mini) -> None:
    build.ensure("edge")
    build.ensure("stock")
    assert prune.find() == []


def test_an_outdated_engine_goes_and_its_build_folder_stays(mini: Mini) -> None:
    old = build.ensure("edge")
    mini.add_source("src/plm.c", "int plm(void) { return 2; }\n")
    new = build.ensure("edge")
    found = prune.find()
    assert [(item.path, item.reason) for item in found] == [(old.folder, "outdated")]
    assert found[0].size_bytes >= old.size_bytes()
    assert prune.remove(found) == found
    assert cache.find(old.manifest.key) is None
    assert cache.find(new.manifest.key) is not None


def test_a_damaged_engine_goes(mini: Mini) -> None:
    engine = build.ensure("edge")
    engine.tool("llama-bench").unlink()
    assert [item.reason for item in prune.find()] == ["damaged"]


def test_another_pin_makes_its_files_outdated(mini: Mini) -> None:
    build.ensure("stock")
    other = mini.sdist.with_name("llama_mini-0.9.tar.gz")
    other.write_bytes(b"old")
    (mini.cache / "sources/0123456789abcdef").mkdir(parents=True)
    (mini.cache / "builds/stock-host-0").mkdir()
    assert names(prune.find()) == {other.name, "0123456789abcdef", "stock-host-0"}


def test_what_killed_builds_left_goes(mini: Mini) -> None:
    litter = make_litter(mini)
    found = prune.find()
    prune.remove(found)
    assert [path for path in litter if path.exists()] == []
    assert sum(item.size_bytes for item in found) >= 500


def test_a_running_build_keeps_its_folders(mini: Mini) -> None:
    litter = make_litter(mini)
    slot = cache.builds_dir() / host_plan("edge", mini.load()).slot
    with locked(slot.with_suffix(".lock"), lambda: None):
        slot.mkdir()
        prune.remove(prune.find())
        assert (mini.cache / "engines/.part-abc").exists()
        prune.remove(prune.find(everything=True))
        assert slot.exists()
        assert (mini.cache / "engines/.part-abc").exists()
    prune.remove(prune.find(everything=True))
    assert [path for path in (slot, *litter) if path.exists()] == []


def test_everything_leaves_only_locks(mini: Mini) -> None:
    build.ensure("edge")
    prune.remove(prune.find(everything=True))
    files = [path for path in mini.cache.rglob("*") if path.is_file()]
    assert [path.suffix for path in files] == [".lock"] * len(files)


def test_what_is_gone_already_is_not_counted(mini: Mini) -> None:
    make_litter(mini)
    found = prune.find()
    prune.remove(found)
    assert prune.remove(found) == []


def test_an_empty_cache_has_nothing_to_prune(mini: Mini) -> None:
    mini.sdist.unlink()
    assert prune.find() == prune.find(everything=True) == []
