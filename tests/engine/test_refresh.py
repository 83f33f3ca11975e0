"""Refreshing: the same pin changes nothing, a new one moves the hunks, a conflict is kept."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.engine import check, patches, refresh
from plm_edge.engine.upstream import PIN_NAME
from plm_edge.errors import InputError, ToolError
from tests.engine.conftest import COMMIT, EDGE_NAME, FILES, TREE, Mini, tar_gz

LONGER = "/* new */\n" * 5 + FILES["src/name.c"]


def new_pin(mini: Mini, name_c: str) -> Path:
    """A second release whose src/name.c is the given one."""
    files = {f"{TREE}/{name}".replace("1.0", "2.0"): text for name, text in FILES.items()}
    files[f"{TREE}/src/name.c".replace("1.0", "2.0")] = name_c
    content = tar_gz(files)
    (mini.sdist.parent / "llama_mini-2.0.tar.gz").write_bytes(content)
    old = (mini.patches_dir / PIN_NAME).read_text(encoding="utf-8")
    text = old.replace("1.0", "2.0").replace(COMMIT, "f" * 40)
    text = text.replace(mini.load().pin.sha256, hashlib.sha256(content).hexdigest())
    (mini.overlay / "new.toml").write_text(text, encoding="utf-8")
    return mini.overlay / "new.toml"


def test_shipped_patches_are_as_git_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine_cache: Path
) -> None:
    shipped = patches.load(resources.shipped_root() / "patches")
    pin_file = shipped.folder / PIN_NAME
    changed = refresh.refresh(shipped, pin_file, tmp_path / "work", tmp_path / "out")
    assert changed == []


def test_the_same_pin_twice_changes_nothing(mini: Mini, tmp_path: Path) -> None:
    pin_file = mini.patches_dir / PIN_NAME
    refresh.refresh(mini.load(), pin_file, tmp_path / "one", mini.patches_dir)
    assert refresh.refresh(mini.load(), pin_file, tmp_path / "two", mini.patches_dir) == []
    check.check_applies(mini.load())


def test_a_new_pin_moves_the_hunks(mini: Mini, tmp_path: Path) -> None:
    target = tmp_path / "out"
    pin_file = new_pin(mini, LONGER)
    changed = refresh.refresh(mini.load(), pin_file, tmp_path / "work", target)
    assert changed == ["0001-change-name.patch"]
    moved = patches.load(target)
    assert moved.pin.version == "2.0"
    assert moved.sources == mini.load().sources
    assert moved.patches[0].forwarded == "no"
    check.check_applies(moved)


def test_a_conflict_is_kept_to_be_resolved_and_exported(mini: Mini, tmp_path: Path) -> None:
    rewritten = FILES["src/name.c"].replace('"stock"', '"upstream"')
    pin_file = new_pin(mini, rewritten)
    target = tmp_path / "out"
    with pytest.raises(ToolError, match="do not merge") as caught:
        refresh.refresh(mini.load(), pin_file, tmp_path / "work", target)
    assert not target.exists()
    repository = tmp_path / "work" / "tree"
    assert str(repository) in (caught.value.hint or "")
    (repository / "src/name.c").write_text(EDGE_NAME, encoding="utf-8")
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "src/name.c"], check=True)
    subprocess.run([*git, "am", "--quiet", "--continue"], check=True)
    assert refresh.export(mini.load(), repository, target) == ["0001-change-name.patch"]
    resolved = patches.load(target)
    assert resolved.pin.commit == "f" * 40
    check.check_applies(resolved)


def test_an_export_of_something_unfinished_is_refused(mini: Mini, tmp_path: Path) -> None:
    rewritten = FILES["src/name.c"].replace('"stock"', '"upstream"')
    with pytest.raises(ToolError):
        refresh.refresh(mini.load(), new_pin(mini, rewritten), tmp_path / "work", tmp_path / "out")
    with pytest.raises(InputError, match="0 commits, expected 1"):
        refresh.export(mini.load(), tmp_path / "work" / "tree", tmp_path / "out")


def test_a_pin_that_cannot_be_had_leaves_nothing(mini: Mini, tmp_path: Path) -> None:
    pin_file = new_pin(mini, LONGER)
    (mini.sdist.parent / "llama_mini-2.0.tar.gz").write_bytes(b"no archive")
    text = pin_file.read_text(encoding="utf-8")
    digest = hashlib.sha256(b"no archive").hexdigest()
    text = re.sub(r'sha256 = "\w+"', f'sha256 = "{digest}"', text)
    pin_file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"not a whole \.tar\.gz"):
        refresh.refresh(mini.load(), pin_file, tmp_path / "work", tmp_path / "out")
    assert not (tmp_path / "work").exists() and not (tmp_path / "out").exists()


def test_a_scratch_folder_in_use_is_refused(mini: Mini, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        refresh.refresh(mini.load(), mini.patches_dir / PIN_NAME, tmp_path, tmp_path / "out")


def test_clean_removes_the_scratch(tmp_path: Path) -> None:
    (tmp_path / "scratch/tree").mkdir(parents=True)
    refresh.clean(tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
