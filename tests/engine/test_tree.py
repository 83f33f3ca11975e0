"""The build folder's source: brought up to date without touching what is equal."""

from __future__ import annotations

import os
from pathlib import Path

from plm_edge.engine import tree
from plm_edge.engine.plan import BuildPlan, Toolchain
from tests.engine.conftest import EDGE_NAME, FILES, Mini, hook

OLD = 1_000_000_000


def plan_of(mini: Mini) -> BuildPlan:
    return BuildPlan("edge", mini.load(), (), ("llama",), Toolchain("host", (), ()))


def age(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (OLD, OLD))


def test_a_stock_tree_has_no_patch(mini: Mini, tmp_path: Path) -> None:
    plan = BuildPlan("stock", mini.load(), (), ("llama",), Toolchain("host", (), ()))
    tree.write_tree(plan, tmp_path / "stock")
    assert (tmp_path / "stock/src/name.c").read_text(encoding="utf-8") == FILES["src/name.c"]
    assert not (tmp_path / "stock/src/plm.c").exists()


def test_documents_are_left_out_unless_a_patch_touches_them(mini: Mini, tmp_path: Path) -> None:
    files = {**FILES, "docs/a.md": "a\n", "docs/b.md": "b\n", "models/vocab.gguf": "v"}
    mini.publish(files)
    mini.add_patch("0002-change-document.patch", hook("docs/b.md", "b\n", "plm\n"))
    tree.bring_up_to_date(plan_of(mini), tmp_path / "build")
    assert not (tmp_path / "build/models").exists()
    assert [path.name for path in (tmp_path / "build/docs").iterdir()] == ["b.md"]
    tree.write_tree(plan_of(mini), tmp_path / "whole")
    assert (tmp_path / "whole/models/vocab.gguf").exists()


def test_only_what_changed_gets_a_new_time(mini: Mini, tmp_path: Path) -> None:
    target = tmp_path / "src"
    tree.bring_up_to_date(plan_of(mini), target)
    assert (target / "src/name.c").read_text(encoding="utf-8") == EDGE_NAME
    age(target)
    mini.add_source("src/plm.c", "int plm(void) { return 2; }\n")
    mini.add_source("src/new.c", "int new;\n")
    tree.bring_up_to_date(plan_of(mini), target)
    touched = {path.name for path in (target / "src").iterdir() if path.stat().st_mtime > OLD}
    assert touched == {"plm.c", "new.c"}


def test_a_file_that_left_the_set_is_removed(mini: Mini, tmp_path: Path) -> None:
    target = tmp_path / "src"
    extra = mini.add_source("src/extra.c", "int extra;\n")
    tree.bring_up_to_date(plan_of(mini), target)
    extra.unlink()
    tree.bring_up_to_date(plan_of(mini), target)
    assert not (target / "src/extra.c").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".src")) == []


def test_a_current_tree_is_left_alone(mini: Mini, tmp_path: Path) -> None:
    target = tmp_path / "src"
    tree.bring_up_to_date(plan_of(mini), target)
    (target / "src/name.c").write_text("by hand", encoding="utf-8")
    tree.bring_up_to_date(plan_of(mini), target)
    assert (target / "src/name.c").read_text(encoding="utf-8") == "by hand"


def test_a_sync_that_was_killed_is_done_again(mini: Mini, tmp_path: Path) -> None:
    target = tmp_path / "src"
    tree.bring_up_to_date(plan_of(mini), target)
    (target / tree.STAMP_NAME).unlink()
    (target / "src/name.c").write_text("half", encoding="utf-8")
    tree.bring_up_to_date(plan_of(mini), target)
    assert (target / "src/name.c").read_text(encoding="utf-8") == EDGE_NAME
