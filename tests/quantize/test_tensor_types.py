"""Sizes agree with the `gguf` package; a row that does not fit gets the type that does."""

from __future__ import annotations

import gguf
import pytest

from plm_edge.quantize.tensor_types import TYPES, fitting


@pytest.mark.parametrize("name", TYPES)
def test_blocks_are_those_of_the_gguf_package(name: str) -> None:
    blocks = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
    assert (TYPES[name].block_values, TYPES[name].block_bytes) == blocks


def test_bits_and_sizes() -> None:
    assert TYPES["q4_0"].bits_per_value == 4.5
    assert TYPES["q6_K"].size_bytes((3, 512)) == 3 * 2 * 210
    assert [TYPES[name].is_quantized for name in ("f32", "bf16", "q8_0")] == [False, False, True]


@pytest.mark.parametrize(
    ("wanted", "row", "expected"),
    [("q4_K", 256, "q4_K"), ("q4_K", 128, "q8_0"), ("q4_K", 24, "f16"), ("q4_0", 24, "f16")],
)
def test_a_row_that_does_not_fit_falls_back(wanted: str, row: int, expected: str) -> None:
    assert fitting(TYPES[wanted], (7, row)).name == expected
