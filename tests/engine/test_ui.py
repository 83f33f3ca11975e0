"""The web page: built once from the pinned source by whatever npm there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.engine import build, ui
from plm_edge.engine.build import Extras
from plm_edge.errors import MissingToolError, SpaceError, ToolError
from tests.engine.conftest import FILES, Mini

GOOD_NPM = """
[ "$1" = run ] || exit 0
mkdir "$LLAMA_UI_OUT_DIR"
echo page > "$LLAMA_UI_OUT_DIR/index.html"
"""


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH with an npm that writes down how it is called."""
    folder = tmp_path / "npm"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    write_npm(folder, GOOD_NPM)
    return folder


def write_npm(folder: Path, script: str) -> None:
    text = f'#!/bin/sh\necho "$@" >> "{folder}/calls"\nls >> "{folder}/seen"\n{script}\n'
    (folder / "npm").write_text(text, encoding="utf-8")
    (folder / "npm").chmod(0o755)


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def test_the_page_is_built_from_its_source_once(mini: Mini, npm: Path) -> None:
    pin = mini.load().pin
    page = ui.build(pin)
    assert (page / "index.html").read_text(encoding="utf-8") == "page\n"
    assert calls(npm) == ["ci --no-audit --no-fund", "run build"]
    assert (npm / "seen").read_text(encoding="utf-8").split() == ["package.json"] * 2
    assert ui.build(pin) == page
    assert len(calls(npm)) == 2
    assert list(ui.ui_dir().glob(".npm-*")) == []


def test_another_source_is_another_page(mini: Mini, npm: Path) -> None:
    first = ui.build(mini.load().pin)
    mini.publish({**FILES, "tools/ui/package.json": '{"version": 2}\n'})
    assert ui.build(mini.load().pin) != first


def test_the_server_carries_the_page_and_an_engine_rebuild_does_not_redo_it(
    mini: Mini, npm: Path
) -> None:
    plain = build.ensure("edge")
    assert not plain.has_ui
    engine = build.ensure("edge", extras=Extras(ui=True))
    assert engine.has_ui
    source = next(mini.cache.glob("builds/*/src")) / ui.DIST_PATH / "index.html"
    assert source.read_text(encoding="utf-8") == "page\n"
    mini.add_source("src/plm.c", "int plm(void) { return 2; }\n")
    build.ensure("edge", extras=Extras(ui=True))
    assert len(calls(npm)) == 2
    mini.add_source("src/plm.c", "int plm(void) { return 3; }\n")
    assert not build.ensure("edge").has_ui
    assert not source.exists()


def test_a_failing_npm_is_told_with_its_log(mini: Mini, npm: Path) -> None:
    write_npm(npm, "echo ERESOLVE no such package >&2; exit 1")
    with pytest.raises(ToolError, match=r"(?s)npm ci .*ERESOLVE.*full log: .*\.log"):
        ui.build(mini.load().pin)
    assert [path for path in ui.ui_dir().iterdir() if path.is_dir()] == []


def test_an_npm_that_builds_nothing_is_an_error(mini: Mini, npm: Path) -> None:
    write_npm(npm, "exit 0")
    with pytest.raises(ToolError, match=r"no index\.html"):
        ui.build(mini.load().pin)


def test_no_npm_is_named(mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not ui.is_possible()
    with pytest.raises(MissingToolError, match="npm") as caught:
        ui.build(mini.load().pin)
    assert caught.value.hint == "sudo apt-get install npm nodejs"


def test_too_little_disk_is_said_before(
    mini: Mini, npm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "WORK_BYTES", 1 << 60)
    with pytest.raises(SpaceError):
        ui.build(mini.load().pin)
    assert calls(npm) == []
