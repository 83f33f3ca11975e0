"""The rows behind `engine build --dry-run`, `list` and `show`."""

from __future__ import annotations

from plm_edge.engine import build, cache, report
from plm_edge.engine.build import Extras
from tests.engine.conftest import Mini


def test_a_plan_names_source_flags_and_folders(mini: Mini) -> None:
    rows = report.plan_rows("edge", Extras(tests=True))
    assert rows["action"] == "build"
    assert rows["source"] == "llama-mini==1.0 vendor/llama.cpp"
    assert rows["patches"] == 1
    assert "test-llama-archs" in rows["targets"]
    assert rows["target"] == str(cache.engines_dir() / rows["key"])
    assert report.plan_rows("stock", Extras())["patches"] == 0


def test_a_plan_says_when_there_is_nothing_to_do(mini: Mini) -> None:
    build.ensure("edge")
    assert report.plan_rows("edge", Extras())["action"] == "nothing, it is current"
    assert report.plan_rows("edge", Extras(tests=True))["action"] == "build"


def test_an_engine_names_the_folders_other_programs_need(mini: Mini) -> None:
    engine = build.ensure("edge")
    rows = report.engine_rows(engine)
    assert rows["bin_dir"] == str(engine.bin_dir)
    assert rows["lib_dir"] == str(engine.lib_dir)
    assert rows["binaries"]["bin/llama-bench"]["sha256"]
    assert rows["patches"] == engine.manifest.patches


def test_the_list_marks_what_is_current(mini: Mini) -> None:
    old = build.ensure("edge")
    mini.add_source("src/plm.c", "int plm(void) { return 2; }\n")
    new, stock = build.ensure("edge"), build.ensure("stock")
    rows = report.list_rows(cache.list_all()[0])
    current = {row["key"] for row in rows if row["is_current"]}
    assert current == {new.manifest.key, stock.manifest.key}
    assert old.manifest.key in {row["key"] for row in rows}
