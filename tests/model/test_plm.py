"""The torch model against itself (two ways to run), the float64 reference, and the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")
torch.set_num_threads(1)  # threads only wait for each other on tensors this small

from plm_edge.convert.pipeline import convert  # noqa: E402
from plm_edge.convert.synth import write_checkpoint  # noqa: E402
from plm_edge.engine.cache import Engine  # noqa: E402
from plm_edge.model import checkpoint, plm  # noqa: E402
from plm_edge.model.reference import Reference  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402
from tests.parity.engine_process import EngineProcess  # noqa: E402
from tests.parity.tolerance import BOUNDS, assert_close  # noqa: E402

SHIPPED = Path(__file__).parents[2] / "models" / "plm-nano"

TINY = PlmShape(64, 3, 4, 32, 16, 8, 24, 128, 96, 256, 10000.0, 1e-6)
SHAPES = [TINY, replace(TINY, qk_nope_head_dim=8, v_head_dim=40, num_attention_heads=3)]


def model_of(shape: PlmShape, seed: int = 1, std: float = 0.15) -> plm.PlmModel:
    """Weights large enough for attention and FFN to matter."""
    model = plm.PlmModel(shape)
    model.initialize(seed, std)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.normal_(1.0, 0.2, generator=generator)
    return model


def tokens_of(shape: PlmShape, length: int, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, shape.vocab_size, (2, length), generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_full_and_latent_decoding_give_the_same_logits(shape: PlmShape) -> None:
    model, tokens = model_of(shape), tokens_of(shape, 40)
    whole = model(tokens)
    cache = plm.LatentCache()
    pieces = [model.decode(piece, cache) for piece in tokens.split((17, 1, 1, 21), dim=1)]
    assert cache.length == 40
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_model_agrees_with_the_float64_reference(shape: PlmShape, tmp_path: Path) -> None:
    model, tokens = model_of(shape), tokens_of(shape, 33)
    checkpoint.save(model, tmp_path)
    wanted = Reference.from_checkpoint(tmp_path).logits(tokens[0].tolist())
    got = model(tokens)[0].detach().numpy()
    # float32 against float64 over 3 layers: rounding only.
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.fixture(scope="module")
def driver(engine: Engine) -> Iterator[EngineProcess]:
    """A process on the patched engine that hands out logits."""
    process = EngineProcess(engine.library_environment())
    yield process
    process.close()


def both_ways(model: plm.PlmModel, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The torch model's logits (tokens, vocab): whole sequence, and token by token on latents."""
    ids, cache = torch.tensor([tokens]), plm.LatentCache()
    one_by_one = [model.decode(token, cache) for token in ids.split(1, dim=1)]
    return model(ids)[0].detach().numpy(), torch.cat(one_by_one, dim=1)[0].numpy()


def assert_same_as_engine(
    driver: EngineProcess, model: plm.PlmModel, tokens: list[int], file: Path
) -> None:
    """Torch's two ways against the engine's two, all in float32: rounding only, in both."""
    for steps in ([["decode", [0, tokens]]], [["pieces", 0, tokens, 1]]):
        theirs = driver.run(file, steps, cache="f32")
        for ours in both_ways(model, tokens):
            assert_close(ours.astype(np.float64), theirs, BOUNDS["f32"])  # 7.3e-7 / 1.7e-6 measured


@pytest.mark.engine
@pytest.mark.parametrize("layout", ["stock", "edge"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_model_agrees_with_the_engine(
    driver: EngineProcess, shape: PlmShape, layout: str, tmp_path: Path
) -> None:
    shape, file = replace(shape, vocab_size=512), tmp_path / "model.gguf"
    model = model_of(shape)
    write_checkpoint(tmp_path / "other", shape)  # for its tokenizer
    checkpoint.save(model, tmp_path / "saved")
    checkpoint.copy_tokenizer(tmp_path / "other", tmp_path / "saved")
    convert(tmp_path / "saved", file, layout=layout, type_name="f32")
    assert_same_as_engine(driver, model, tokens_of(shape, 60)[0].tolist(), file)


@pytest.mark.engine
def test_the_shipped_model_agrees_with_the_engine(driver: EngineProcess, tmp_path: Path) -> None:
    model, file = checkpoint.load(SHIPPED).float(), tmp_path / "nano.gguf"
    convert(SHIPPED, file, layout="edge", type_name="f32")
    tokens = torch.randint(0, 4000, (90,), generator=torch.Generator().manual_seed(3))
    assert_same_as_engine(driver, model, tokens.tolist(), file)


@pytest.mark.parametrize("length", [1, plm.QUERY_BLOCK, plm.QUERY_BLOCK * 2 + 5])
def test_attention_in_blocks_is_attention(length: int) -> None:
    generator = torch.Generator().manual_seed(4)
    q, k = (torch.randn(2, 3, length, 24, generator=generator) for _ in range(2))
    v = torch.randn(2, 3, length, 16, generator=generator)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(plm.causal_attention(q, k, v), wanted, rtol=1e-4, atol=1e-5)


def test_the_cache_holds_the_latent_width_only() -> None:
    model, cache = model_of(TINY), plm.LatentCache()
    model.decode(tokens_of(TINY, 5), cache)
    rows = cache.layers[0]
    assert rows.latent is not None
    assert rows.k_rope is not None
    width = rows.latent.shape[-1] + rows.k_rope.shape[-1]
    assert (rows.latent.shape[:2], width) == ((2, 5), TINY.latent_width)


def test_zero_fractions_count_dead_neurons_exactly() -> None:
    model, tokens = model_of(TINY), tokens_of(TINY, 20)
    seen: list[float] = []
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(
            lambda _module, inputs: seen.append(float((inputs[0] == 0).float().mean()))
        )
    assert model.zero_fractions(tokens) == pytest.approx(seen)
    assert all(0.2 < share < 0.8 for share in seen)


def test_initialization_is_seeded_and_scaled() -> None:
    first, again, other = (model_of(TINY, seed) for seed in (3, 3, 4))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    down = first.state_dict()["model.layers.0.mlp.down_proj.weight"]
    assert float(down.std()) == pytest.approx(0.15 / 6**0.5, rel=0.05)
