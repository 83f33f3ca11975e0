"""The activation penalty and forced sparsity, against sums made by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")
torch.set_num_threads(1)  # threads only wait for each other on tensors this small

from plm_edge.model import sparsity  # noqa: E402
from plm_edge.model.plm import PlmModel  # noqa: E402
from plm_edge.model.recipe import Sparsity  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402

TINY = PlmShape(64, 3, 4, 32, 16, 8, 24, 128, 96, 256, 10000.0, 1e-6)
TOKENS = torch.arange(40).reshape(2, 20)


@pytest.fixture
def model() -> PlmModel:
    made = PlmModel(TINY)
    made.initialize(1, std=0.15)
    return made


def test_the_penalty_is_the_mean_activation_summed_over_layers(model: PlmModel) -> None:
    by_hand: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.mlp.up_proj.register_forward_hook(
            lambda _m, _i, out: by_hand.append(out.detach().clamp(min=0).mean())
        )
    penalty = sparsity.ActivationPenalty(model)
    model(TOKENS)
    assert float(penalty.take().detach()) == pytest.approx(float(sum(by_hand)))
    with torch.no_grad():
        model(TOKENS)  # a validation pass leaves nothing behind
    model(TOKENS)
    assert float(penalty.take().detach()) == pytest.approx(
        float(sum(by_hand[:3]))
    )  # the same text again


def test_training_on_the_penalty_alone_makes_zeros(model: PlmModel) -> None:
    penalty = sparsity.ActivationPenalty(model)
    before = sum(model.zero_fractions(TOKENS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(10):
        model(TOKENS)
        optimizer.zero_grad()
        penalty.take().backward()
        optimizer.step()
    assert sum(model.zero_fractions(TOKENS)) > before + 0.5


def test_the_weight_grows_from_start_to_full() -> None:
    settings = Sparsity(penalty=0.1, start_share=0.2, full_share=0.6)
    weights = [settings.weight(step, 100) for step in (0, 20, 40, 60, 99)]
    assert weights == pytest.approx([0, 0, 0.05, 0.1, 0.1])
    assert Sparsity(penalty=0.3).weight(0, 100) == 0.3
    for wrong in ({"penalty": -1.0}, {"start_share": 0.5, "full_share": 0.4}):
        with pytest.raises(ValueError, match="expected"):
            Sparsity(**wrong)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_forced_sparsity_keeps_the_largest(model: PlmModel, share: float) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    whole: list[torch.Tensor] = []
    mlp = model.model.layers[0].mlp
    mlp.down_proj.register_forward_pre_hook(lambda _m, inputs: whole.append(inputs[0]))
    with sparsity.forced(model, share):
        mlp.down_proj.register_forward_pre_hook(
            lambda _m, inputs: seen.append((whole[-1], inputs[0]))
        )
        cut_logits = model(TOKENS)
    before, after = seen[0]
    kept = TINY.intermediate_size - int(share * TINY.intermediate_size)
    assert int((after > 0).sum(-1).max()) <= kept
    wanted = before.topk(kept, dim=-1).values.sum(-1)
    torch.testing.assert_close(after.sum(-1), wanted)
    assert not torch.equal(cut_logits, model(TOKENS))


def test_after_forcing_and_with_nothing_cut_the_model_is_itself(model: PlmModel) -> None:
    plain = model(TOKENS)
    with sparsity.forced(model, 0.95):
        model(TOKENS)
    assert torch.equal(model(TOKENS), plain)
    with sparsity.forced(model, 0.0):
        assert torch.equal(model(TOKENS), plain)
    with sparsity.forced(model, None):
        assert torch.equal(model(TOKENS), plain)
