"""The float64 reference against small things worked out by hand, and against itself."""

from __future__ import annotations

import cmath
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from plm_edge.convert.synth import SHAPES, write_checkpoint
from plm_edge.errors import InputError
from plm_edge.model.reference import Memory, Reference, rotate, softmax
from plm_edge.model.reference_weights import joined_kv_b
from plm_edge.shape import PlmShape

ROOT = Path(__file__).parents[2]
TOKENS = np.random.default_rng(0).integers(0, 500, 40).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "tiny"
    write_checkpoint(path, SHAPES["tiny"], dtype="f32", seed=4)
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference.from_checkpoint(folder)


def test_rotation_turns_adjacent_pairs() -> None:
    values = np.array([[1.0, 2.0, 3.0, 4.0]])
    turned = rotate(values, np.array([5]), 100.0)
    first = complex(1, 2) * cmath.exp(5j)
    second = complex(3, 4) * cmath.exp(5j * 100 ** (-2 / 4))
    assert np.allclose(turned, [[first.real, first.imag, second.real, second.imag]])


def test_softmax_gives_nothing_to_hidden_keys() -> None:
    assert softmax(np.array([[0.0, 0.0, -np.inf]])).tolist() == [[0.5, 0.5, 0.0]]


def spelled_out(reference: Reference, tokens: list[int]) -> np.ndarray:
    """The last token's logits with a loop for every sum that has an index of its own."""
    shape, weights = reference.shape, cache(reference.weights)
    heads, nope, value = shape.num_attention_heads, shape.qk_nope_head_dim, shape.v_head_dim

    def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x @ x) / len(x) + shape.rms_norm_eps) * weight

    def turn(x: np.ndarray, position: int) -> np.ndarray:
        out = []
        for pair in range(len(x) // 2):
            angle = position / shape.rope_theta ** (2 * pair / len(x))
            z = complex(x[2 * pair], x[2 * pair + 1]) * cmath.exp(1j * angle)
            out += [z.real, z.imag]
        return np.array(out)

    stream = [weights("model.embed_tokens")[token].copy() for token in tokens]
    for layer in range(shape.num_hidden_layers):

        def weight(name: str, layer: int = layer) -> np.ndarray:
            return weights(f"model.layers.{layer}.{name}")

        normed = [norm(x, weight("input_layernorm")) for x in stream]
        latents, shared = [], []
        for position, x in enumerate(normed):
            both = weight("self_attn.kv_a_proj_with_mqa") @ x
            latents.append(norm(both[: shape.kv_lora_rank], weight("self_attn.kv_a_layernorm")))
            shared.append(turn(both[shape.kv_lora_rank :], position))
        expanded = [weight("self_attn.kv_b_proj") @ latent for latent in latents]
        for position, x in enumerate(normed):
            query = weight("self_attn.q_proj") @ x
            mixed = []
            for head in range(heads):
                q = query[head * shape.qk_head_dim : (head + 1) * shape.qk_head_dim]
                q = np.concatenate([q[:nope], turn(q[nope:], position)])
                offset = head * (nope + value)
                scores = []
                for earlier in range(position + 1):
                    k = np.concatenate([expanded[earlier][offset : offset + nope], shared[earlier]])
                    scores.append(q @ k / shape.qk_head_dim**0.5)
                shares = np.exp(scores) / np.exp(scores).sum()
                v = [e[offset + nope : offset + nope + value] for e in expanded]
                mixed.append(sum(share * v[i] for i, share in enumerate(shares)))
            stream[position] = stream[position] + weight("self_attn.o_proj") @ np.concatenate(mixed)
        for position, x in enumerate(stream):
            up = weight("mlp.up_proj") @ norm(x, weight("post_attention_layernorm"))
            stream[position] = x + weight("mlp.down_proj") @ (np.maximum(up, 0) ** 2)
    return weights("model.embed_tokens") @ norm(stream[-1], weights("model.norm"))


def test_agrees_with_the_sums_spelled_out(reference: Reference) -> None:
    tokens = TOKENS[:6]
    expected = spelled_out(reference, tokens)
    assert np.allclose(reference.logits(tokens)[-1], expected, rtol=0, atol=1e-11)


def test_pieces_give_what_the_whole_gives(reference: Reference) -> None:
    memory = Memory()
    pieces = [reference.run(part, memory) for part in (TOKENS[:17], TOKENS[17:18], TOKENS[18:])]
    assert np.allclose(np.concatenate(pieces), reference.logits(TOKENS), rtol=0, atol=1e-11)


def test_later_tokens_change_nothing_before_them(reference: Reference) -> None:
    other = [*TOKENS[:20], *reversed(TOKENS[20:])]
    assert np.array_equal(reference.logits(TOKENS)[:20], reference.logits(other)[:20])


def test_shifting_everything_changes_nothing(reference: Reference) -> None:
    memory = Memory()
    reference.run(TOKENS[:20], memory)
    moved = memory.copy()
    moved.shift(0, 20, 100)
    expected = reference.run(TOKENS[20:25], memory)
    assert np.allclose(reference.run(TOKENS[20:25], moved), expected, rtol=0, atol=1e-10)


def test_removed_tokens_are_forgotten(reference: Reference) -> None:
    memory = Memory()
    reference.run(TOKENS[:20], memory)
    memory.remove(15, 20)
    answer = reference.run(TOKENS[20:22], memory)
    expected = reference.logits([*TOKENS[:15], *TOKENS[20:22]])[-2:]
    assert np.allclose(answer, expected, rtol=0, atol=1e-11)


def test_zero_fractions_confirm_the_synthesizer(tmp_path: Path) -> None:
    shape = replace(SHAPES["tiny"], hidden_size=128, intermediate_size=512)
    write_checkpoint(tmp_path / "model", shape, zero_fraction=0.8, seed=2)
    tokens = np.random.default_rng(1).integers(0, 500, (6, 256))
    reference = Reference.from_checkpoint(tmp_path / "model")
    measured = np.mean([reference.zero_fractions(row) for row in tokens], axis=0)
    assert np.allclose(measured, 0.8, atol=0.01)


def test_live_neurons_differ_from_token_to_token(reference: Reference) -> None:
    seen: list[np.ndarray] = []
    reference.run(TOKENS, Memory(), lambda _, live: seen.append(live > 0))
    for live in seen:
        assert live.any(axis=0).mean() > 0.6  # most neurons fire for some token
        both = (live[:-1] & live[1:]).sum() / live[1:].sum()
        assert both < 0.35  # and few for two tokens in a row


def test_shipped_checkpoint_is_as_sparse_as_it_says() -> None:
    folder = ROOT / "models/plm-nano-random"
    assert json.loads((folder / "config.json").read_text())["plm_edge_random"] is True
    reference = Reference.from_checkpoint(folder)
    assert reference.shape == SHAPES["nano"]
    tokens = np.random.default_rng(2).integers(0, 2000, (4, 256))
    measured = np.mean([reference.zero_fractions(row) for row in tokens], axis=0)
    assert np.allclose(measured, 0.909, atol=0.01)


def test_edge_parts_join_to_the_checkpoint_s_kv_b() -> None:
    shape = PlmShape(num_attention_heads=3, kv_lora_rank=5, qk_nope_head_dim=4, v_head_dim=2)
    kv_b = np.arange(3 * (4 + 2) * 5, dtype=np.float64).reshape(-1, 5)
    per_head = kv_b.reshape(3, 6, 5)
    assert shape.kv_lora_rank == per_head.shape[-1]
    joined = joined_kv_b(per_head[:, :4].transpose(0, 2, 1), per_head[:, 4:])
    assert np.array_equal(joined, kv_b)


def test_tokens_out_of_range_are_refused(reference: Reference) -> None:
    with pytest.raises(InputError, match="token 512, expected 0 to 511"):
        reference.logits([1, 512])


def test_missing_tensor_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"has no tensor model\.embed_tokens\.weight"):
        Reference.from_checkpoint(tmp_path).logits([1])
