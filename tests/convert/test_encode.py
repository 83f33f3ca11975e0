from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from plm_edge.convert.encode import (
    FLOAT_TYPES,
    OUTPUT_TYPES,
    RAW_DTYPES,
    FloatType,
    OutputType,
    Raw,
    encode,
    is_finite,
    not_finite_count,
    overflows,
    row_blocks,
    row_bytes,
    to_float32,
)


def upstreams(raw: Raw, source: FloatType, target: OutputType) -> np.ndarray:
    """What the gguf library makes of the same values."""
    values = to_float32(raw, source).reshape(-1, 32)
    kind = GGMLQuantizationType[target.upper()]
    with np.errstate(all="ignore"):
        return gguf.quants.quantize(values, kind).reshape(-1).view(np.uint8)


def every_finite(source: FloatType) -> Raw:
    every = np.arange(1 << 16, dtype=np.uint16)
    return every[np.isfinite(to_float32(every, source))]


@pytest.mark.parametrize("source", ["bf16", "f16"])
@pytest.mark.parametrize("target", ["f32", "f16", "bf16"])
def test_every_16_bit_value_becomes_what_upstream_makes_of_it(
    source: FloatType, target: OutputType
) -> None:
    raw = every_finite(source)
    assert np.array_equal(encode(raw, source, target), upstreams(raw, source, target))


@pytest.mark.parametrize("source", FLOAT_TYPES)
@pytest.mark.parametrize("target", OUTPUT_TYPES)
@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0, 1e-5, 1e-8])
def test_weights_become_upstreams_bytes(
    source: FloatType, target: OutputType, scale: float
) -> None:
    values = (np.random.default_rng(1).standard_normal((300, 1024)) * scale).astype(np.float32)
    values[:7, :64] = 0
    if source == "bf16":
        raw = (values.view(np.uint32) >> 16).astype(np.uint16)
    else:
        raw = values.astype("f2" if source == "f16" else "f4").view(RAW_DTYPES[source])
    assert np.array_equal(encode(raw, source, target), upstreams(raw, source, target))


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.integers(1, 4).map(lambda blocks: blocks * 32),
        elements=st.floats(-65504, 65504, width=32).filter(lambda x: x == 0 or abs(x) > 1e-30),
    ),
    st.sampled_from(OUTPUT_TYPES),
)
def test_any_floats_become_upstreams_bytes(values: np.ndarray, target: OutputType) -> None:
    raw = values.view(np.uint32)
    expected, before = upstreams(raw, "f32", target), raw.copy()
    assert np.array_equal(encode(raw, "f32", target), expected)
    assert np.array_equal(raw, before)


def test_halves_round_away_from_zero_in_q8_0() -> None:
    values = np.zeros(32, np.float32)
    values[:6] = [127, 0.5, -0.5, 1.5, np.nextafter(np.float32(0.5), np.float32(0)), -126.5]
    encoded = encode(values.view(np.uint32), "f32", "q8_0")
    assert encoded[2:8].view(np.int8).tolist() == [127, 1, -1, 2, 0, -127]


@pytest.mark.parametrize("source", FLOAT_TYPES)
def test_every_infinity_and_nan_is_found(source: FloatType) -> None:
    for value in (np.inf, -np.inf, np.nan, -np.nan):
        values = np.ones(100, np.float32)
        values[77] = value
        if source == "bf16":
            raw = (values.view(np.uint32) >> 16).astype(np.uint16)
        else:
            raw = values.astype("f2" if source == "f16" else "f4").view(RAW_DTYPES[source])
        assert not is_finite(raw, source)
        assert not_finite_count(raw, source) == ((1, 0) if np.isnan(value) else (0, 1))
        assert is_finite(raw[:77], source)


def test_the_largest_numbers_are_finite() -> None:
    assert is_finite(np.array([3.4e38, -3.4e38], np.float32).view(np.uint32), "f32")
    assert is_finite(np.array([0x7F7F, 0xFF7F], np.uint16), "bf16")
    assert is_finite(np.array([], np.uint16), "f16")


@pytest.mark.parametrize(("target", "value"), [("f16", 65520.0), ("q8_0", 1e7)])
def test_an_overflow_is_noticed(target: OutputType, value: float) -> None:
    for sign in (1, -1):
        values = np.full(32, sign * value, np.float32)
        assert overflows(encode(values.view(np.uint32), "f32", target), target)
    fine = np.full(32, 65504, np.float32)
    assert not overflows(encode(fine.view(np.uint32), "f32", target), target)


def test_row_blocks_cover_every_row_once() -> None:
    assert list(row_blocks(10, 8, 32)) == [(0, 4), (4, 4), (8, 2)]
    assert list(row_blocks(2, 1000, 32)) == [(0, 1), (1, 1)]
    assert [row_bytes(64, kind) for kind in OUTPUT_TYPES] == [256, 128, 128, 68]
