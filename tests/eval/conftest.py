"""A small model per session: as it is, quantized, and a text to judge it on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eval import small


@pytest.fixture(scope="session")
def small_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in f32, edge layout."""
    return small.write_model(tmp_path_factory.mktemp("small") / "small.f32.gguf")


@pytest.fixture(scope="session")
def small_q4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, Q4_0."""
    return small.write_model(tmp_path_factory.mktemp("small") / "small.q4.gguf", dtype="q4_0")


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 1,400 tokens."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(small.TEXT, encoding="utf-8")
    return path
