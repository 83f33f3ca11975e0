"""The engine's quantizers in this process give what its tool writes and what gguf reads back."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from plm_edge.engine.cache import Engine
from plm_edge.quantize.candidates import DEFAULT_TYPES, NARROW_TYPES
from plm_edge.quantize.ggml import Ggml

pytestmark = pytest.mark.engine
VALUES = np.random.default_rng(0).standard_normal((6, 512), dtype=np.float32)


@pytest.mark.parametrize("name", sorted({*DEFAULT_TYPES, *NARROW_TYPES, "f16", "f32"}))
def test_packed_rows_are_the_formats_own(engine: Engine, name: str) -> None:
    ggml = Ggml(engine.lib_dir)
    packed = ggml.packed(VALUES, name)
    kind = gguf.GGMLQuantizationType[name.upper()]
    expected = gguf.dequantize(packed.reshape(6, -1), kind) if name not in ("f16", "f32") else None
    found = ggml.unpacked(packed, name, (6, 512))
    if expected is not None:
        assert found == pytest.approx(expected.reshape(6, 512), abs=1e-6)
    step = {"f32": 0.0, "f16": 2e-3, "q8_0": 0.02, "q6_K": 0.08}.get(name, 1.5)
    assert np.abs(found - VALUES).max() <= step
    assert (ggml.rounded(VALUES, name) == found).all()


def test_importance_moves_the_error_to_where_it_matters_less(engine: Engine) -> None:
    ggml = Ggml(engine.lib_dir)
    weight = np.ones(512, np.float32)
    weight[::2] = 1000
    plain = (ggml.rounded(VALUES, "q4_K") - VALUES) ** 2 @ weight
    weighed = (ggml.rounded(VALUES, "q4_K", weight) - VALUES) ** 2 @ weight
    assert weighed.sum() < 0.9 * plain.sum()
