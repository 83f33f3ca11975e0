"""The suite's models: made once, made again when a recipe changes, their sources removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plm_edge.commands import _bench_models
from plm_edge.commands._bench_models import ModelStore
from plm_edge.convert.synth import SHAPES
from plm_edge.engine.cache import Engine
from plm_edge.gguf_header import read_header


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "bench ü", SHAPES["tiny"])


def test_both_engines_get_their_file_of_the_same_weights(store: ModelStore, engine: Engine) -> None:
    _bench_models.prepare(store, ["q4"], ["Q4_0"], engine)
    assert sorted(os.listdir(store.folder)) == ["plm-random.Q4_0.stock.gguf", "plm-random.q4.gguf"]
    ours, theirs = read_header(store.edge_path("q4")), read_header(store.stock_path("Q4_0"))
    assert (ours.layout, theirs.layout) == ("edge", "stock")
    assert ours.is_random
    assert theirs.is_random
    assert ours.by_name["blk.0.ffn_up.weight"].type == "q4_0"
    assert theirs.by_name["blk.0.ffn_up.weight"].type == "q4_0"


def test_current_files_are_kept_and_a_changed_recipe_makes_a_new_one(
    store: ModelStore, engine: Engine, own_folders: Path
) -> None:
    _bench_models.prepare(store, ["q4"], ["Q4_0"], engine)
    written = [path.stat().st_mtime_ns for path in sorted(store.folder.iterdir())]
    _bench_models.prepare(store, ["q4"], ["Q4_0"], engine)
    assert [path.stat().st_mtime_ns for path in sorted(store.folder.iterdir())] == written
    mine = own_folders / "config" / "quant" / "q4.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text('schema = 1\ndescription = "mine"\ntype = "q5_0"\n', encoding="utf-8")
    _bench_models.prepare(store, ["q4"], ["Q4_0"], engine)
    assert read_header(store.edge_path("q4")).by_name["blk.0.ffn_up.weight"].type == "q5_0"


def test_a_half_written_checkpoint_is_started_over(store: ModelStore, engine: Engine) -> None:
    rest = store.folder / "checkpoint.part"
    rest.mkdir(parents=True)
    (rest / "config.json").write_text("{")
    _bench_models.prepare(store, ["q8"], [], engine)
    assert os.listdir(store.folder) == ["plm-random.q8.gguf"]
