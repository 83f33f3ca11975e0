"""Evaluation: held-out loss by hand, intervals against known values, tasks that a rule can win."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")
torch.set_num_threads(1)  # threads only wait for each other on tensors this small

from plm_edge.convert import synth_tokenizer  # noqa: E402
from plm_edge.model import corpus, evaluate, preference, shards  # noqa: E402
from plm_edge.model.dataset import Encoder, read_tokenizer  # noqa: E402
from plm_edge.model.plm import PlmModel  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402

SHAPE = PlmShape(32, 2, 2, 16, 8, 8, 8, 64, 300, 512, 10000.0, 1e-6)


@pytest.fixture
def model() -> PlmModel:
    made = PlmModel(SHAPE)
    made.initialize(3, std=0.1)
    return made


def test_held_out_loss_by_hand(model: PlmModel, tmp_path: Path) -> None:
    ids = np.random.default_rng(1).integers(0, 290, 33).tolist()
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    counts = {"test": shards.write(tmp_path, "test", [(ids, None)], 300)}
    shards.write_index(tmp_path, tmp_path / "tokenizer.json", 300, counts)
    found = evaluate.held_out(model, tmp_path, "test", length=16)
    windows = [ids[:17], ids[16:33]]
    by_hand = []
    for window in windows:
        logits = model(torch.tensor(window[:-1])[None])[0].log_softmax(-1)
        by_hand.append(-float(np.mean([logits[i, t].item() for i, t in enumerate(window[1:])])))
    assert found.loss.mean == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert found.perplexity.mean == pytest.approx(np.exp(np.mean(by_hand)), rel=1e-5)
    assert len(found.zero_shares) == 2
    cut = evaluate.held_out(model, tmp_path, "test", length=16, force=0.9)
    assert cut.loss.mean != found.loss.mean


def test_intervals() -> None:
    # Wilson, 8 of 10: 0.4902 to 0.9433 (Newcombe 1998, method 3)
    share = evaluate.wilson([True] * 8 + [False] * 2)
    assert (share.mean, share.count) == (0.8, 10)
    assert (share.low, share.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    values = np.random.default_rng(2).normal(5, 2, 400)
    mean = evaluate.bootstrap(values.tolist())
    half = 1.96 * values.std() / 20
    assert mean.low == pytest.approx(values.mean() - half, abs=0.05)
    assert mean.high == pytest.approx(values.mean() + half, abs=0.05)


def test_tasks_score_the_documented_answer_as_perfect(
    model: PlmModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synth_tokenizer.write_tokenizer(tmp_path, synth_tokenizer.make_vocabulary(300), 512)
    encoder = Encoder(read_tokenizer(tmp_path))
    modules = [
        corpus.Module(
            f"made{n}",
            "".join(
                f'def f{n}{i}(x):\n    """Give the {word} of number {n}."""\n'
                f"    first = x + {i}\n    return first * {i}\n\n\n"
                for i, word in enumerate(("sum", "root", "sign", "half", "third", "name"))
            ),
        )
        for n in range(2)
    ]
    monkeypatch.setattr(corpus, "standard_library", lambda: modules)
    parts = {"train": modules[:1], "validation": [], "test": modules[1:]}
    monkeypatch.setattr(corpus, "split", lambda found: parts)
    answers = {f"made1.f1{i}" for i in range(6)}

    def knows(_model: object, _encoder: object, question: str, *_: object) -> list[str]:
        name = next((path for path in answers if path in question), "made1.f10")
        words = ("sum", "root", "sign", "half", "third", "name")
        return [f"Give the {words[int(name[-1])]} of number 1."]

    monkeypatch.setattr(preference, "sample", knows)
    monkeypatch.setattr("plm_edge.model.dialogue.GENERAL", ("what",))
    scores = {(s.kind, s.measure): s for s in evaluate.tasks(model, encoder, 4)}
    what = scores["what", "answer F1"]
    assert (what.model.mean, what.model.count) == (1.0, 4)
    assert 0 < what.retrieval.mean < 1
    assert 0 < what.majority.mean < 1
    choice = scores["what", "best of 4"]
    assert 0 <= choice.model.low <= choice.model.mean <= choice.model.high <= 1
