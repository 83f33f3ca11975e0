"""Bytes per token against the arithmetic done by hand for PLM-1.8B, and on small files."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench import roofline
from plm_edge.gguf_header import GgufHeader, GgufTensor, read_header
from plm_edge.quantize import recipe
from plm_edge.quantize.tensor_types import fitting
from plm_edge.shape import GGUF_KEYS, PlmShape
from tests.quantize.tiny import SHAPE, tensor_shapes, write_model


def header_of(path: Path, shape: PlmShape, recipe_name: str, layout: str) -> GgufHeader:
    """The header such a file would have, without its weights."""
    real = read_header(write_model(path, layout=layout))
    chosen = recipe.find(recipe_name)
    tensors = []
    for name, size in tensor_shapes(shape, layout).items():
        kind = fitting(chosen.type_of(name, shape.num_hidden_layers), size)
        is_matrix = len(size) > 1
        size_bytes = kind.size_bytes(size) if is_matrix else 4 * size[0]
        tensors.append(GgufTensor(name, size, kind.name, 0, size_bytes))
    values = dict(real.values)
    for field, key in GGUF_KEYS.items():
        values[key] = type(values[key])(values[key].type, getattr(shape, field))
    lengths = {"key": shape.qk_head_dim, "value": shape.v_head_dim}
    for name, length in lengths.items():
        key = f"plm.attention.{name}_length"
        values[key] = type(values[key])(values[key].type, length)
    return GgufHeader(path, 3, values, tuple(tensors), 32, 0, 0)


def test_plm_1_8b_reads_what_the_design_says(tmp_path: Path) -> None:
    edge = header_of(tmp_path / "e.gguf", PlmShape(), "q4", "edge")
    sparse = roofline.reads(edge, latent=True, cache_type="f16", live_fraction=0.0951)
    dense = roofline.reads(edge, latent=True, cache_type="f16")
    # 834 and 1107 MB with all latent projections at Q4_0; at Q8_0 they are 33.6 MB more.
    assert sparse.weight_bytes / 1e6 == pytest.approx(834 + 33.6, abs=1)
    assert dense.weight_bytes / 1e6 == pytest.approx(1107 + 33.6, abs=1)
    assert sparse.cache_bytes_per_token == 36_864
    q8 = roofline.reads(edge, latent=True, cache_type="q8_0")
    assert q8.cache_bytes_per_token == 19_584


def test_stock_keeps_the_full_cache(tmp_path: Path) -> None:
    stock = header_of(tmp_path / "s.gguf", PlmShape(), "q4", "stock")
    reads = roofline.reads(stock, latent=False, cache_type="f16")
    assert reads.cache_bytes_per_token == 327_680
    assert reads.bytes_per_token(4096) - reads.weight_bytes == pytest.approx(1.342e9, rel=1e-3)


def test_only_the_edge_layout_skips_neurons(tmp_path: Path) -> None:
    for layout, skips in (("edge", True), ("stock", False)):
        header = read_header(write_model(tmp_path / f"{layout}.gguf", layout=layout))
        sparse = roofline.reads(header, latent=True, cache_type="f16", live_fraction=0.0)
        dense = roofline.reads(header, latent=True, cache_type="f16")
        down = SHAPE.num_hidden_layers * SHAPE.hidden_size * SHAPE.intermediate_size * 2
        assert dense.weight_bytes - sparse.weight_bytes == (down if skips else 0)


def test_generation_sees_its_own_tokens() -> None:
    reads = roofline.Reads(1000.0, 10)
    assert reads.generation_bytes(0, 1) == 1010
    assert reads.generation_bytes(100, 3) == 1000 + 10 * 102
