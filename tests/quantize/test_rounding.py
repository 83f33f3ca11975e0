"""Rounding errors against plain arithmetic on whole matrices, and what they are weighed by."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError
from plm_edge.gguf_header import read_header
from plm_edge.quantize.ggml import Ggml
from plm_edge.quantize.rounding import Weights
from tests.quantize.test_imatrix import made
from tests.quantize.tiny import write_model

pytestmark = pytest.mark.engine
KIND = gguf.GGMLQuantizationType.Q4_0


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.0.attn_k_b.weight"])
def test_the_loss_of_all_rows_is_the_weighed_squared_error(
    tmp_path: Path, engine: Engine, name: str
) -> None:
    header = read_header(write_model(tmp_path / "m.gguf", dtype="f32"))
    one = made(header)
    tensor = header.tensor(name)
    values = np.fromfile(header.path, np.float32, tensor.values, offset=tensor.offset)
    values = values.reshape(-1, *tensor.shape[-2:])
    moved = Ggml(engine.lib_dir).rounded(values[0], "q4_0", one.columns[name].mean[0]) - values[0]
    found = Weights(header, Ggml(engine.lib_dir), one).loss(tensor, "q4_0", rows=10**6)
    weight = one.columns[name].mean
    signal = sum((matrix**2 @ column).sum() for matrix, column in zip(values, weight, strict=True))
    assert found.signal == pytest.approx(signal, rel=1e-4)
    if len(values) == 1:
        assert found.error == pytest.approx((moved**2 @ weight[0]).sum(), rel=1e-4)
    assert 1e-4 < found.share < 0.05


def test_a_sample_of_rows_tells_about_the_same(tmp_path: Path, engine: Engine) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    weights = Weights(header, Ggml(engine.lib_dir), made(header))
    tensor = header.tensor("blk.1.ffn_up.weight")
    shares = [weights.loss(tensor, "q3_K", rows).share for rows in (64, 512)]
    assert shares[0] == pytest.approx(shares[1], rel=0.05)


def test_an_error_in_a_neuron_that_never_fires_costs_nothing(
    tmp_path: Path, engine: Engine
) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    one = made(header)
    tensor = header.tensor("blk.1.ffn_down.weight")
    one.neurons[tensor.name].sums[:] = 0
    one.neurons[tensor.name].sums[0, 3] = 5
    raw = bytearray(header.path.read_bytes())
    row = tensor.shape[1] * 2
    raw[tensor.offset + 3 * row : tensor.offset + 4 * row] = bytes(row)  # exact in every format
    header.path.write_bytes(raw)
    loss = Weights(header, Ggml(engine.lib_dir), one).loss(tensor, "q2_K", rows=10**6)
    assert (loss.error, loss.share) == (0, 0)


def test_a_rounded_tensor_has_the_bytes_of_its_own_type(tmp_path: Path, engine: Engine) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    weights = Weights(header, Ggml(engine.lib_dir), None)
    tensor = header.tensor("blk.0.attn_v_b.weight")
    raw = weights.rounded(tensor, "q4_0", "f16")
    assert raw.size == tensor.size_bytes
    source = np.fromfile(header.path, np.float16, tensor.values, offset=tensor.offset)
    expected = gguf.dequantize(gguf.quantize(source.astype("f4").reshape(tensor.shape), KIND), KIND)
    assert raw.view(np.float16) == pytest.approx(expected.ravel(), rel=1e-3, abs=1e-5)
    assert weights.rounded(tensor, "q4_0", "q8_0").size == tensor.values // 32 * 34


def test_values_that_are_quantized_already_are_refused(tmp_path: Path, engine: Engine) -> None:
    header = read_header(write_model(tmp_path / "m.gguf", dtype="q8_0"))
    with pytest.raises(InputError, match="is q8_0, expected f16 or f32"):
        Weights(header, Ggml(engine.lib_dir), None).loss(header.tensors[0], "q4_0")
