"""Answers survive a crash: half a last line is kept, skipped and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from plm_edge.eval.tasks.model import Answered
from plm_edge.eval.tasks.store import Settings, Store
from tests.eval.tasks.examples import TIMING

SETTINGS = Settings("5a", "edge-1", "k1", 512, 2, "f16")
ANSWERED = Answered({"f1": 0.5}, "text", TIMING)


def test_answers_come_back(tmp_path: Path) -> None:
    Store("t", SETTINGS, tmp_path).add("a", ANSWERED)
    assert Store("t", SETTINGS, tmp_path).read() == {"a": ANSWERED}


def test_half_a_last_line_is_kept_skipped_and_said(tmp_path: Path) -> None:
    store = Store("t", SETTINGS, tmp_path)
    store.add("a", ANSWERED)
    with store.path.open("a", encoding="utf-8") as file:
        file.write('{"id": "b", "answ')
    assert store.read() == {"a": ANSWERED}
    assert len(store.skipped) == 1 and ":2:" in store.skipped[0]
    store.add("c", ANSWERED)
    assert set(store.read()) == {"a", "c"}
    assert '{"id": "b", "answ\n' in store.path.read_text(encoding="utf-8")


def test_a_line_of_another_shape_is_skipped_and_said(tmp_path: Path) -> None:
    store = Store("t", SETTINGS, tmp_path)
    store.add("a", ANSWERED)
    with store.path.open("a", encoding="utf-8") as file:
        file.write('{"id": "b", "answered": 3}\n')
    assert (set(store.read()), len(store.skipped)) == ({"a"}, 1)


def test_other_settings_are_another_store(tmp_path: Path) -> None:
    paths = {Store("t", replace(SETTINGS, threads=n), tmp_path).path for n in (1, 2)}
    assert len({*paths, Store("u", SETTINGS, tmp_path).path}) == 3


def test_a_finished_run_is_not_taken_up_again(tmp_path: Path) -> None:
    store = Store("t", SETTINGS, tmp_path)
    store.add("a", ANSWERED)
    assert store.finish().is_file()
    assert Store("t", SETTINGS, tmp_path).read() == {}
    store.forget()
