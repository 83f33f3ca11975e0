"""The patch set: headers, order, no fuzz, no silent skips."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from plm_edge import resources, shell
from plm_edge.engine import patches
from plm_edge.errors import InputError, ToolError
from tests.engine.conftest import EDGE_NAME, FILES, Mini, hook

STOCK_NAME = FILES["src/name.c"]
GOOD = hook("src/name.c", STOCK_NAME, EDGE_NAME)


def test_shipped_patches_keep_the_rules() -> None:
    folder = resources.shipped_root() / "patches"
    patch_set = patches.load(folder)
    listed = (folder / "series").read_text(encoding="utf-8").split()
    assert listed == sorted(path.name for path in folder.glob("*.patch"))
    assert [patch.path.name for patch in patch_set.patches] == listed
    for number, patch in enumerate(patch_set.patches, start=1):
        assert patch.name.startswith(f"{number:04}-")
        assert 0 < patch.added_lines < patches.ADDED_LINES_LIMIT
        assert patch.author.endswith(">")
        assert re.match(r"\w{3}, \d+ \w{3} \d{4} ", patch.date)


def test_a_header_is_read_whole(mini: Mini) -> None:
    patch = mini.load().patches[0]
    assert patch.as_dict() == {
        "name": "0001-change-name",
        "subject": "change name",
        "author": "Somebody <somebody@example.org>",
        "date": "Sat, 21 Nov 2026 08:00:00 +0000",
        "forwarded": "no",
        "last_update": "2026-11-21",
        "files": ["src/name.c"],
        "added_lines": 1,
        "sha256": patch.sha256,
        "path": str(mini.patches_dir / "0001-change-name.patch"),
    }
    assert patch.body == "The reason for it."


def test_a_folded_subject_is_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "0001-change-name.patch"
    path.write_text(GOOD.replace("change name", "change name\n and more"), encoding="utf-8")
    assert patches.parse(path).subject == "change name and more"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("From 0000", "Frm 0000", "From <commit>"),
        ("From: Somebody", "Fro: Somebody", "'From'"),
        ("Date: ", "Dat: ", "'Date'"),
        ("Subject: ", "Subj: ", "'Subject'"),
        ("The reason for it.\n", "", "no body"),
        ("Forwarded: no", "Forward: no", "'Forwarded'"),
        ("Forwarded: no", "Forwarded: perhaps", "Forwarded: 'perhaps'"),
        ("Forwarded: no", "Forwarded: not-needed", "Forwarded: 'not-needed'"),
        ("Last-Update: 2026-11-21", "", "'Last-Update'"),
        ("Last-Update: 2026-11-21", "Last-Update: 2026-13-01", "Last-Update: '2026-13-01'"),
        ("Last-Update: 2026-11-21", "Last-Update: 20261121", "Last-Update: '20261121'"),
        ("diff --git", "diff", "no 'diff --git'"),
        ("+const", "+\n" * 60 + "+const", "61 added lines"),
    ],
)
def test_a_broken_header_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "0001-change-name.patch"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=r"0001-change-name\.patch: ") as caught:
        patches.parse(path)
    assert said in caught.value.message


@pytest.mark.parametrize("forwarded", ["https://example.org/1", "no", "not-needed only ours"])
def test_every_way_of_dep3_is_taken(tmp_path: Path, forwarded: str) -> None:
    path = tmp_path / "0001-change-name.patch"
    path.write_text(GOOD.replace("Forwarded: no", f"Forwarded: {forwarded}"), encoding="utf-8")
    assert patches.parse(path).forwarded == forwarded


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ("", "'0001-change-name.patch' is on one side only"),
        ("0001-change-name.patch\n0002-not-here.patch\n", "'0002-not-here.patch' is on one"),
        ("../evil.patch\n", "'../evil.patch', expected a name"),
        ("0001-change-name.patch -p0\n", "expected a name"),
    ],
)
def test_series_and_files_must_agree(mini: Mini, series: str, said: str) -> None:
    (mini.patches_dir / "series").write_text(series, encoding="utf-8")
    with pytest.raises(InputError, match="series") as caught:
        mini.load()
    assert said in caught.value.message


def test_two_orders_are_refused(mini: Mini) -> None:
    mini.add_patch("0002-change-again.patch", GOOD)
    lines = (mini.patches_dir / "series").read_text(encoding="utf-8").split()
    (mini.patches_dir / "series").write_text("\n".join(reversed(lines)), encoding="utf-8")
    with pytest.raises(InputError, match="order"):
        mini.load()


def test_comments_in_the_series_are_for_people(mini: Mini) -> None:
    path = mini.patches_dir / "series"
    path.write_text("# hooks\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(mini.load().patches) == 1


def test_sources_are_copied_and_patches_applied(mini: Mini, unpacked: Callable[[], Path]) -> None:
    tree = unpacked()
    patches.apply_all(mini.load(), tree)
    assert (tree / "src/name.c").read_text(encoding="utf-8") == EDGE_NAME
    assert (tree / "src/plm.c").is_file()


def test_a_source_may_not_hide_upstreams_file(mini: Mini, unpacked: Callable[[], Path]) -> None:
    mini.add_source("src/name.c", "int x;\n")
    with pytest.raises(InputError, match=r"src/name\.c: the pinned source has this file"):
        patches.apply_all(mini.load(), unpacked())


def test_the_tree_of_another_repository_is_patched_too(
    mini: Mini, unpacked: Callable[[], Path]
) -> None:
    tree = unpacked()
    subprocess.run(["git", "init", "-q", str(tree.parent)], check=True)
    patches.apply_all(mini.load(), tree)
    assert (tree / "src/name.c").read_text(encoding="utf-8") == EDGE_NAME


def test_git_without_the_ceiling_skips_and_that_is_an_error(
    mini: Mini, unpacked: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = unpacked()
    subprocess.run(["git", "init", "-q", str(tree.parent)], check=True)
    capture = shell.capture

    def without_ceiling(command, *, env, **options):  # type: ignore[no-untyped-def]
        return capture(command, env={**env, "GIT_CEILING_DIRECTORIES": ""}, **options)

    monkeypatch.setattr(patches.shell, "capture", without_ceiling)
    with pytest.raises(ToolError, match=r"0001-change-name\.patch: git skipped the patch"):
        patches.apply_all(mini.load(), tree)


def test_a_git_hooks_environment_does_not_matter(
    mini: Mini, unpacked: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    tree = unpacked()
    patches.apply_all(mini.load(), tree)
    assert (tree / "src/name.c").read_text(encoding="utf-8") == EDGE_NAME


def test_context_that_differs_is_refused_not_fuzzed(
    mini: Mini, unpacked: Callable[[], Path]
) -> None:
    tree = unpacked()
    moved = STOCK_NAME.replace(" six", " sechs")
    (tree / "src/name.c").write_text(moved, encoding="utf-8")
    with pytest.raises(ToolError, match=r"does not apply: patch failed: src/name\.c"):
        patches.apply(mini.load().patches[0], tree)
    assert (tree / "src/name.c").read_text(encoding="utf-8") == moved


def test_a_patch_that_is_applied_already_is_refused(
    mini: Mini, unpacked: Callable[[], Path]
) -> None:
    tree = unpacked()
    patches.apply_all(mini.load(), tree)
    with pytest.raises(ToolError, match="does not apply"):
        patches.apply(mini.load().patches[0], tree)


def test_a_patch_saved_during_the_build_is_noticed(
    mini: Mini, unpacked: Callable[[], Path]
) -> None:
    patch_set = mini.load()
    patch = patch_set.patches[0].path
    patch.write_text(GOOD.replace("change name", "change it"), encoding="utf-8")
    with pytest.raises(InputError, match="changed during the build"):
        patches.apply(patch_set.patches[0], unpacked())
    mini.add_source("src/plm.c", "int plm(void) { return 2; }\n")
    with pytest.raises(InputError, match=r"plm\.c: changed during the build"):
        patches.copy_sources(patch_set, unpacked())
