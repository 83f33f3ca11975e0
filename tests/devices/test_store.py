"""What is kept by content is whole, made once, and the newest of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.devices import store


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLM_EDGE_TEST_DEVICES", str(tmp_path / "kept"))
    return tmp_path / "kept"


def write(target: Path) -> None:
    (target / "file").write_text("made")


def fail(target: Path) -> None:
    raise AssertionError("made twice")


def test_made_once_for_the_same_inputs(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("1")
    first = store.made("disk", ["a", script], write)

    assert store.made("disk", ["a", script], fail) == first
    script.write_text("2")
    assert store.made("disk", ["a", script], write) != first


def test_the_older_one_is_deleted_and_others_stay(folder: Path) -> None:
    store.made("pi", ["1"], write)
    kept = store.made("pi-start", ["1"], write)
    newest = store.made("pi", ["2"], write)

    assert sorted(path for path in folder.iterdir() if path.is_dir()) == sorted([kept, newest])


def test_a_failure_leaves_nothing(folder: Path) -> None:
    with pytest.raises(AssertionError):
        store.made("disk", ["a"], fail)

    assert [path for path in folder.iterdir() if path.is_dir()] == []
