"""Matrices replaced in memory answer as a file of those matrices does."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.engine.cache import Engine
from plm_edge.eval import text
from plm_edge.eval.model import Options
from plm_edge.eval.perturb import Perturbed
from plm_edge.eval.session import Model, Session
from plm_edge.eval.vocabulary import Vocabulary
from plm_edge.gguf_header import read_header
from tests.eval import small

pytestmark = pytest.mark.engine
OPTIONS = Options(64)


def rounded(path: Path, name: str) -> np.ndarray:
    """A tensor of an f32 file through Q4_0 and back, as bytes."""
    tensor = read_header(path).tensor(name)
    values = np.fromfile(path, np.float32, tensor.values, offset=tensor.offset)
    kind = gguf.GGMLQuantizationType.Q4_0
    back = gguf.dequantize(gguf.quantize(values.reshape(tensor.shape), kind), kind)
    return np.ascontiguousarray(back, np.float32).view(np.uint8).ravel()


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.1.ffn_down.weight"])
def test_the_divergence_is_that_of_a_file(
    engine: Engine, small_f32: Path, small_text: Path, tmp_path: Path, name: str
) -> None:
    read = text.read(small_text)
    with Vocabulary(read_header(small_f32), engine.lib_dir) as vocabulary:
        windows = text.windows(read, vocabulary, 64, 3)
    raw = rounded(small_f32, name)
    with Perturbed(read_header(small_f32), engine.lib_dir, OPTIONS, windows, 257) as model:
        assert model.divergence() == pytest.approx(0, abs=1e-8)
        with model.replaced({name: raw}):
            found = model.divergence()
        assert model.divergence() == pytest.approx(0, abs=1e-8)
        with pytest.raises(ValueError, match="3 bytes, expected"):
            model.replaced({name: raw[:3]}).__enter__()
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(small_f32.read_bytes())
    with changed.open("r+b") as file:
        file.seek(read_header(changed).tensor(name).offset)
        file.write(raw.tobytes())
    session = Session(engine.lib_dir, engine.manifest.key, read, OPTIONS, 3)
    rows = session.reference(Model(read_header(small_f32), "base"), windows)
    outcome = session.measure(Model(read_header(changed), "changed"), windows, rows)
    with Perturbed(read_header(small_f32), engine.lib_dir, OPTIONS, windows, 257) as model:
        assert model.divergence_of(read_header(changed)) == pytest.approx(found, rel=1e-5)
    assert found > 1e-4
    assert found == pytest.approx(np.mean(outcome.divergence), rel=0.35)  # other positions judged


def test_replacing_works_on_an_8_bit_file_too(
    engine: Engine, small_text: Path, tmp_path: Path
) -> None:
    path = small.write_model(tmp_path / "m.gguf", dtype="q8_0")
    header = read_header(path)
    with Vocabulary(header, engine.lib_dir) as vocabulary:
        windows = text.windows(text.read(small_text), vocabulary, 64, 2)
    name = "blk.0.ffn_up.weight"
    with Perturbed(header, engine.lib_dir, OPTIONS, windows, 257) as model:
        with model.replaced({name: np.zeros(header.tensor(name).size_bytes, np.uint8)}):
            assert model.divergence() > 1e-3
        assert model.divergence() == pytest.approx(0, abs=1e-8)
