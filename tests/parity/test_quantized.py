"""Files with rounded weights against the judge on those very weights, dequantized.

What is left is what the engine does to activations: with weights in f16, bf16 or blocks it rounds
them to 16 bits, or to 8 bits in blocks of 32 or 256.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plm_edge.engine.cache import Engine
from plm_edge.gguf_header import read_header
from plm_edge.model.reference import Reference
from plm_edge.quantize import plan, recipe
from plm_edge.quantize.quantizer import Request, apply
from tests.parity.engine_process import EngineProcess
from tests.parity.models import Model, ModelStore, expected
from tests.parity.tolerance import Difference, assert_close

pytestmark = pytest.mark.engine

# By the type of most weights. Measured 2026-11 on x86-64 with AVX-512, overall / worst token:
# f16 1.9e-3 / 3.3e-3, bf16 1.6e-2 / 3.0e-2, blocks with 8-bit activations 7.3e-2 / 1.6e-1.
# The bounds are three times that, for the last two times that.
BOUNDS = {
    "f16": Difference(6e-3, 1e-2),
    "bf16": Difference(5e-2, 9e-2),
    "blocks": Difference(1.5e-1, 3.2e-1),
}


def measured(process: EngineProcess, path: Path, tokens: list[int], **context: Any) -> np.ndarray:
    """A prompt at once and its end token by token: prefill and decode have their own kernels."""
    steps = [["decode", [0, tokens[:-20]]], ["pieces", 0, tokens[-20:], 1]]
    return process.run(path, steps, cache="f32", **context)


def judged(path: Path, tokens: list[int]) -> np.ndarray:
    return expected(Reference.from_gguf(path), tokens)


@pytest.mark.parametrize("layout", ["stock", "edge"])
@pytest.mark.parametrize("type_name", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("name", ["tiny", "nano"])
def test_types_of_the_converter(
    edge: EngineProcess, models: ModelStore, name: str, type_name: str, layout: str
) -> None:
    model = models.get(name)
    path, tokens = model.gguf(layout, type_name), model.tokens(100)
    bound = BOUNDS.get(type_name, BOUNDS["blocks"])
    assert_close(measured(edge, path, tokens), judged(path, tokens), bound)


@pytest.mark.parametrize("layout", ["stock", "edge"])
@pytest.mark.parametrize("name", ["f16", "q8", "q4", "q4-k"])
def test_recipes(
    engine: Engine, edge: EngineProcess, models: ModelStore, tmp_path: Path, name: str, layout: str
) -> None:
    model = models.get("nano")
    path, tokens = quantized(engine, model, layout, name, tmp_path), model.tokens(100)
    bound = BOUNDS.get(name, BOUNDS["blocks"])
    assert_close(measured(edge, path, tokens), judged(path, tokens), bound)


@pytest.mark.parametrize("name", ["q8", "q4", "q4-k"])
def test_no_further_from_the_judge_than_upstream(
    engine: Engine,
    edge: EngineProcess,
    stock: EngineProcess,
    models: ModelStore,
    tmp_path: Path,
    name: str,
) -> None:
    model = models.get("nano")
    path, tokens = quantized(engine, model, "stock", name, tmp_path), model.tokens(100)
    wanted = judged(path, tokens)
    ours = Difference.between(measured(edge, path, tokens), wanted)
    theirs = Difference.between(measured(stock, path, tokens, flash="off"), wanted)
    assert ours.overall < 1.25 * theirs.overall


def quantized(engine: Engine, model: Model, layout: str, name: str, folder: Path) -> Path:
    """The model quantized by a shipped recipe."""
    header = read_header(model.gguf(layout))
    target = folder / f"{layout}-{name}.gguf"
    apply(Request(header, target), plan.make(header, recipe.find(name)), engine)
    return target
