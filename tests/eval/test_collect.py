"""What flows into each matrix, against the reference forward pass in double precision."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError
from plm_edge.eval import collect
from plm_edge.eval.collect import Collector
from plm_edge.eval.model import EvalModel, Options
from plm_edge.gguf_header import read_header
from plm_edge.model.reference import Array, Memory, Reference, rotate, softmax
from tests.eval import small

pytestmark = pytest.mark.engine
TOKENS = list(range(40, 104))


class Watching(Reference):
    """The judge, noting the squares of what flows into each matrix."""

    def __init__(self, *words: object) -> None:
        super().__init__(*words)  # type: ignore[arg-type]
        self.seen: dict[str, Array] = {}

    def note(self, name: str, inputs: Array) -> None:
        self.seen[name] = np.square(inputs).sum(axis=-2)

    def _attention(self, layer: int, residual: Array, memory: Memory) -> Array:
        shape, weight = self.shape, self._weight
        heads, nope, rank = shape.num_attention_heads, shape.qk_nope_head_dim, shape.kv_lora_rank
        normed = self._norm(residual, weight(layer, "input_layernorm"))
        query = (normed @ weight(layer, "self_attn.q_proj").T).reshape(len(residual), heads, -1)
        query = query.swapaxes(0, 1)
        row = normed @ weight(layer, "self_attn.kv_a_proj_with_mqa").T
        latent = self._norm(row[:, :rank], weight(layer, "self_attn.kv_a_layernorm"))
        both = weight(layer, "self_attn.kv_b_proj").reshape(heads, nope + shape.v_head_dim, rank)
        places = np.arange(len(residual))
        key = rotate(row[:, rank:], places, shape.rope_theta)
        scores = query[..., :nope] @ (both[:, :nope] @ latent.T)
        scores = scores + rotate(query[..., nope:], places, shape.rope_theta) @ key.T
        scores = scores / math.sqrt(shape.qk_head_dim)
        scores[:, places[None] > places[:, None]] = -np.inf
        mixed = softmax(scores) @ latent  # (heads, tokens, rank)
        values = (mixed @ both[:, nope:].swapaxes(-1, -2)).swapaxes(0, 1)
        values = values.reshape(len(residual), -1)
        block = f"blk.{layer}"
        self.note(f"{block}.attn_q.weight", normed[None])
        self.note(f"{block}.attn_k_b.weight", query[..., :nope])
        self.note(f"{block}.attn_v_b.weight", mixed)
        self.note(f"{block}.attn_kv_b.weight", latent[None])
        self.note(f"{block}.attn_output.weight", values[None])
        return super()._attention(layer, residual, memory)


def collected(engine: Engine, path: Path) -> Collector:
    header = read_header(path)
    seen = collect.collector(header, engine.lib_dir)
    with EvalModel(header, engine.lib_dir, Options(64, cache_type="f32"), seen) as model:
        for _ in model.logits(TOKENS, 0):
            pass
    seen.check()
    return seen


@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_every_matrix_is_weighed_by_what_flows_into_it(
    engine: Engine, tmp_path: Path, layout: str
) -> None:
    path = small.write_model(tmp_path / "m.gguf", layout=layout)
    seen = collected(engine, path)
    judge = Watching.from_gguf(path)
    live: dict[int, Array] = {}
    judge.run(TOKENS, Memory(), lambda layer, values: live.__setitem__(layer, values))
    for name, expected in judge.seen.items():
        if name in {tensor.name for tensor in read_header(path).tensors}:
            found = seen.columns[name]
            assert found.values == pytest.approx(expected, rel=2e-3, abs=1e-4), name
            assert found.count == 64
    neurons = seen.neurons if layout == "edge" else seen.columns
    first = neurons["blk.0.ffn_down.weight"]
    assert first.values[0] == pytest.approx(np.square(live[0]).sum(axis=0), rel=2e-3, abs=1e-4)
    matrices = {
        tensor.name
        for tensor in read_header(path).tensors
        if not tensor.name.endswith("norm.weight")
    }
    assert set(seen.columns) | set(seen.neurons) == matrices


def test_quantized_files_hide_their_neurons_and_are_refused(engine: Engine, small_q4: Path) -> None:
    with pytest.raises(InputError, match=r"ffn_up\.weight is q4_0, whose fused FFN shows no"):
        collect.collector(read_header(small_q4), engine.lib_dir)


def test_inputs_that_are_no_numbers_are_refused(engine: Engine, tmp_path: Path) -> None:
    path = small.write_model(tmp_path / "m.gguf")
    with path.open("r+b") as file:
        file.seek(read_header(path).tensor("blk.1.attn_norm.weight").offset)
        file.write(np.float32(np.inf).tobytes())
    header = read_header(path)
    seen = collect.collector(header, engine.lib_dir)
    with EvalModel(header, engine.lib_dir, Options(64), seen) as model, pytest.raises(InputError):
        list(model.logits(TOKENS, 0))
    with pytest.raises(InputError, match=r"what flows into .* is not numbers"):
        seen.check()
