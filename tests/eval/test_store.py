"""References are computed once, whole or not at all, and never taken for another's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plm_edge import paths
from plm_edge.errors import SpaceError
from plm_edge.eval import store
from plm_edge.eval.store import Key

KEY = Key("model", "tokens", "engine", context=16, windows=2, cache_type="f16", top=4)


def fill(rows: Any) -> None:
    rows["surprise"] = 1.5


def never(rows: Any) -> None:
    raise AssertionError("computed again")


def test_a_reference_is_computed_once_and_mapped() -> None:
    store.ensure(KEY, 7, fill)
    rows = store.ensure(KEY, 7, never)
    assert isinstance(rows, np.memmap)
    assert rows.shape == (2, 7) and (rows["surprise"] == 1.5).all()


@pytest.mark.parametrize(
    "change",
    [{"model_sha256": "x"}, {"tokens_sha256": "x"}, {"engine": "x"}, {"cache_type": "q8_0"}],
)
def test_any_other_condition_is_another_reference(change: dict[str, str]) -> None:
    store.ensure(KEY, 7, fill)
    assert store.find(replace(KEY, **change), 7) is None


def test_a_failure_half_way_leaves_nothing() -> None:
    def break_off(rows: Any) -> None:
        rows["surprise"][0] = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ensure(KEY, 7, break_off)
    assert list(store.folder().iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"not numpy", None])
def test_a_damaged_file_is_computed_again(damage: bytes | None) -> None:
    store.ensure(KEY, 7, fill)
    whole = KEY.path.read_bytes()
    KEY.path.write_bytes(whole[:-20] if damage is None else damage)
    assert (store.ensure(KEY, 7, fill)["surprise"] == 1.5).all()
    assert KEY.path.read_bytes() == whole


def test_too_little_disk_is_said_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = paths.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(SpaceError, match="needs"):
        store.ensure(KEY, 7, never)
