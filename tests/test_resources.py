"""Lookup order of the data folders, overrides, and `extends`."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.errors import ConfigError, InputError


def put(root: Path, name: str, text: str) -> Path:
    path = root / "devices" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def trees(tmp_path: Path, own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Four empty roots, in place of the real ones."""
    found = {name: tmp_path / name for name in ("overlay", "env", "shipped")}
    for folder in found.values():
        folder.mkdir()
    found["user"] = own_folders / "config"
    monkeypatch.setattr(resources, "shipped_root", lambda: found["shipped"])
    monkeypatch.setenv("PLM_EDGE_OVERLAY", str(found["env"]))
    resources.set_overlay(found["overlay"])
    return found


def test_overlay_beats_environment_beats_user_beats_shipped(trees: dict[str, Path]) -> None:
    for name in ("shipped", "user", "env", "overlay"):
        path = put(trees[name], "pi", "schema = 1\n")
        assert resources.find("devices", "pi").path == path


def test_an_override_is_announced(trees: dict[str, Path]) -> None:
    below = put(trees["shipped"], "pi", "schema = 1\n")
    put(trees["user"], "pi", "schema = 1\n")
    assert [(r.name, r.origin, r.overrides) for r in resources.list_all("devices")] == [
        ("pi", "user", below)
    ]


def test_an_unknown_name_gets_the_nearest(trees: dict[str, Path]) -> None:
    put(trees["shipped"], "rpi5", "schema = 1\n")
    with pytest.raises(InputError, match="no device named 'rpi6'") as caught:
        resources.find("devices", "rpi6")
    assert caught.value.hint == "did you mean 'rpi5'?"


def test_extends_merges_tables_one_level_down(trees: dict[str, Path]) -> None:
    put(trees["shipped"], "rpi5", "schema = 1\ncores = 4\n[ssh]\nuser = 'pi'\nport = 22\n")
    put(trees["user"], "kitchen", "schema = 1\nextends = 'rpi5'\n[ssh]\nport = 2222\n")
    table = resources.read_table(resources.find("devices", "kitchen"))
    assert table == {"cores": 4, "ssh": {"user": "pi", "port": 2222}}


def test_a_users_file_may_extend_the_one_it_hides(trees: dict[str, Path]) -> None:
    put(trees["shipped"], "rpi5", "schema = 1\ncores = 4\n")
    put(trees["user"], "rpi5", "schema = 1\nextends = 'rpi5'\nmemory = 8\n")
    table = resources.read_table(resources.find("devices", "rpi5"))
    assert table == {"cores": 4, "memory": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends = 3", "extends = 3, expected a name"),
        ("extends = 'loop'", "extends itself"),
        ("extends = 'child'", "one level only"),
    ],
)
def test_wrong_extends_is_an_error(trees: dict[str, Path], text: str, message: str) -> None:
    put(trees["shipped"], "base", "schema = 1\n")
    put(trees["shipped"], "child", "schema = 1\nextends = 'base'\n")
    put(trees["shipped"], "loop", f"schema = 1\n{text}\n")
    with pytest.raises(ConfigError, match=message):
        resources.read_table(resources.find("devices", "loop"))


def test_an_overlay_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        resources.set_overlay(tmp_path / "none")


def test_the_working_directory_is_never_searched(
    trees: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "here", "schema = 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        resources.find("devices", "here")


def test_a_missing_folder_says_so(trees: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="no patches folder"):
        resources.folder("patches")
