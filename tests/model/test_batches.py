"""What a step trains on: mixtures of answers and plain text, and every process its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")

from plm_edge.model import shards  # noqa: E402
from plm_edge.model.batches import Batches  # noqa: E402
from plm_edge.model.recipe import Batch, Part, Phase, TrainRecipe  # noqa: E402

ANSWER, TEXT = 2, 5
QUESTION = 1
LENGTH = 16


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A shard of exchanges (eight asked, eight answered) and one of plain text."""
    exchange = ([QUESTION] * 8 + [ANSWER] * 8, [False] * 8 + [True] * 8)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    counts = {
        "talk": shards.write(tmp_path, "talk", [exchange] * 20, 64),
        "text": shards.write(tmp_path, "text", [([TEXT] * 500, None)], 64),
    }
    shards.write_index(tmp_path, tmp_path / "tokenizer.json", 64, counts)
    return tmp_path


def batches(data: Path, mixture: tuple[Part, ...], sequences: int = 400) -> Batches:
    recipe = TrainRecipe("mixed", "sft", 3, Batch(sequences, LENGTH), (Phase("p", 1.0, mixture),))
    return Batches.open(recipe, data)


def test_fine_tuning_with_replay_counts_answers_and_all_of_the_text(data: Path) -> None:
    batch = batches(data, (Part("talk", 0.75), Part("text", 0.25))).at(0)
    is_text = batch.inputs[:, 0] == TEXT
    assert 0.18 < float(is_text.float().mean()) < 0.32  # 400 draws at a quarter
    assert bool(batch.counts[is_text].all())
    assert torch.equal(batch.counts[~is_text], batch.targets[~is_text] == ANSWER)
    assert batch.total_counted == int(batch.counts.sum())


def test_processes_share_one_batch_and_know_the_same_total(data: Path) -> None:
    drawn = batches(data, (Part("talk"), Part("text")), sequences=6)
    whole, parts = drawn.at(2), [drawn.at(2, rank, 2) for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.inputs, whole.inputs[rank::2])
        assert part.total_counted == whole.total_counted
    assert not torch.equal(drawn.at(1).inputs, whole.inputs)
