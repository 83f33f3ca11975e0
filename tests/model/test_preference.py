"""The preference loss does what its derivation says, on cases worked by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")
torch.set_num_threads(1)  # threads only wait for each other on tensors this small

from plm_edge.convert import synth_tokenizer  # noqa: E402
from plm_edge.model import preference as pref  # noqa: E402
from plm_edge.model.dataset import Encoder, read_tokenizer  # noqa: E402
from plm_edge.model.dialogue import Pair  # noqa: E402
from plm_edge.model.plm import PlmModel  # noqa: E402
from plm_edge.model.recipe import Online, PreferenceSettings, Sampling  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402

SHAPE = PlmShape(32, 1, 2, 16, 8, 8, 8, 64, 300, 256, 10000.0, 1e-6)
PAIRS = [pref.Preference("What is one?", "a number", "a fish"), pref.Preference("x", "y", "z z")]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    synth_tokenizer.write_tokenizer(tmp_path, synth_tokenizer.make_vocabulary(300), 256)
    return Encoder(read_tokenizer(tmp_path))


@pytest.fixture
def model() -> PlmModel:
    made = PlmModel(SHAPE)
    made.initialize(3, std=0.1)
    return made


def test_dpo_by_hand() -> None:
    policy = torch.tensor([[-1.0, -3.0], [-2.0, -2.0]])
    reference = torch.tensor([[-2.0, -2.0], [-2.0, -2.0]])
    # gains: (1) - (-1) = 2, and 0; β = 0.5 → -log σ(1) and -log σ(0)
    wanted = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    assert float(pref.dpo(policy, reference, 0.5)) == pytest.approx(wanted)


def test_dpo_pushes_the_better_up_and_the_worse_down_by_the_same_amount() -> None:
    policy = torch.tensor([[-1.0, -3.0]], requires_grad=True)
    pref.dpo(policy, torch.tensor([[-2.0, -2.0]]), 0.5).backward()
    assert policy.grad is not None
    # d/d gain of -log σ(β gain) = -β σ(-β gain), β = 0.5, gain = 2
    slope = 0.5 / (1 + math.exp(1))
    torch.testing.assert_close(policy.grad, torch.tensor([[-slope, slope]]))


def test_equal_models_lose_log_two(model: PlmModel, encoder: Encoder) -> None:
    frozen = copy.deepcopy(model)
    loss = pref.preference_loss(model, frozen, encoder, PAIRS, PreferenceSettings())
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)


def test_the_share_weighs_answers_against_refinements(model: PlmModel, encoder: Encoder) -> None:
    frozen = copy.deepcopy(model)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1.5)
    parts = [
        pref.preference_loss(
            model, frozen, encoder, PAIRS, PreferenceSettings(refine_share=share)
        ).item()
        for share in (0.0, 1.0, 0.25)
    ]
    assert parts[2] == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], rel=1e-5)
    assert parts[0] != pytest.approx(parts[1], rel=1e-3)


def test_only_the_answer_counts(model: PlmModel, encoder: Encoder) -> None:
    ids, counts = encoder.exchange("q", "an answer")
    logits = model(torch.tensor(ids)[None])[0].log_softmax(-1)
    by_hand = sum(logits[i - 1, ids[i]].item() for i in range(1, len(ids)) if counts[i])
    got = pref.answer_log_probability(model, ids, counts)
    assert got.item() == pytest.approx(by_hand, rel=1e-4)
    assert encoder.tokenizer.decode([i for i, c in zip(ids, counts, strict=True) if c]) in (
        "an answer",
        "an answer<|im_end|>",
    )


def test_training_on_a_pair_makes_the_better_answer_likelier(
    model: PlmModel, encoder: Encoder
) -> None:
    frozen, settings = copy.deepcopy(model), PreferenceSettings(beta=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    seen = []
    for _ in range(8):
        loss = pref.preference_loss(model, frozen, encoder, PAIRS[:1], settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.5 * seen[0]


def test_an_online_round_keeps_pairs_whose_rewards_differ(
    model: PlmModel, encoder: Encoder
) -> None:
    def reward(question: str, answer: str) -> float:
        return float(len(answer)) if question == "long" else 1.0

    online = Online(draws=2, sampling=Sampling(most=8))
    found, again = (
        pref.online_round(model, encoder, ["long", "same"], reward, online, margin=0.2, seed=1)
        for _ in range(2)
    )
    assert [pair.question for pair in found] == ["long"]
    assert len(found[0].better) > len(found[0].worse)
    assert again == found


def test_samples_are_drawn_side_by_side_as_alone(model: PlmModel, encoder: Encoder) -> None:
    greedy = Sampling(most=6, temperature=0)
    alone = pref.sample(model, encoder, "q", greedy, torch.Generator())
    both = pref.sample(model, encoder, "q", greedy, torch.Generator(), count=2)
    assert both == alone * 2
    # and as without a cache: the likeliest token, one at a time
    ids = [*encoder.turn_open("user"), *encoder.plain("q"), *encoder.turn_close()]
    ids += encoder.turn_open("assistant")
    start = len(ids)
    for _ in range(6):
        ids.append(int(model(torch.tensor(ids)[None])[0, -1].argmax()))
    end = encoder.tokenizer.token_to_id("<|im_end|>")
    new = ids[start : ids.index(end, start)] if end in ids[start:] else ids[start:]
    assert alone == [encoder.tokenizer.decode(new)]


def test_offline_pairs_differ_in_words_and_come_from_one_kind() -> None:
    answers = ["Return the sum of all.", "Return the sum of all!", "Open a file."] * 4
    known = [Pair("what", "m", f"q{i}", answer) for i, answer in enumerate(answers)]
    known.append(Pair("where", "m", "w", "In `m`."))
    found = pref.offline_pairs(known, 10, seed=1, margin=0.5)
    assert found == pref.offline_pairs(known, 10, seed=1, margin=0.5)
    assert found
    kinds = {pair.answer: pair.kind for pair in known}
    for pair in found:
        assert kinds[pair.better] == kinds[pair.worse] == "what"
        assert pref.word_f1(pair.better, pair.worse) <= 0.5
    assert len(pref.offline_pairs(known, 1, seed=1, margin=0.5)) == 1


def test_word_f1() -> None:
    assert pref.word_f1("a b c", "a b d") == pytest.approx(2 / 3)
    assert (pref.word_f1("", ""), pref.word_f1("a", "b")) == (1.0, 0.0)
