"""Checking a patch set: exact lines, and a tree that builds at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.engine import cache, check, patches
from plm_edge.engine.plan import host_plan
from plm_edge.errors import InputError, ToolError
from tests.engine.conftest import EDGE_NAME, FILES, Mini, hook

BROKEN = EDGE_NAME.replace("return", "retrun")


def test_shipped_patches_apply_at_their_lines(engine_cache: Path) -> None:
    check.check_applies(patches.load(resources.shipped_root() / "patches"))


def test_a_hunk_that_must_be_looked_for_is_refused(mini: Mini) -> None:
    mini.publish({**FILES, "src/name.c": "/* new */\n" * 5 + FILES["src/name.c"]})
    with pytest.raises(InputError, match=r"0001-change-name\.patch: Hunk #1 .* \(offset 5 lines\)"):
        check.check_applies(mini.load())


def test_a_tree_that_does_not_build_half_way_is_found(mini: Mini) -> None:
    # The second patch mends what the first one broke: the whole set would build.
    first, second = (
        mini.patches_dir / "0001-change-name.patch",
        hook("src/name.c", BROKEN, EDGE_NAME),
    )
    first.write_text(hook("src/name.c", FILES["src/name.c"], BROKEN), encoding="utf-8")
    mini.add_patch("0002-mend-name.patch", second)
    said: list[str] = []
    with pytest.raises(ToolError, match="retrun"):
        check.check_builds(host_plan("edge", mini.load()), notify=said.append)
    assert said == ["compiling after 0001-change-name"]


def test_a_good_set_builds_at_every_step_and_leaves_nothing(mini: Mini) -> None:
    said: list[str] = []
    check.check_builds(host_plan("edge", mini.load()), notify=said.append)
    assert said == ["compiling after 0001-change-name", "compiling the tests"]
    assert [path.name for path in cache.builds_dir().iterdir()] == ["check.lock"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_shipped_tree_builds_after_each_patch(engine_cache: Path) -> None:
    patch_set = patches.load(resources.shipped_root() / "patches")
    check.check_builds(host_plan("edge", patch_set))
