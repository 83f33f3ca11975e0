"""Engines and models for the parity tests, once per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plm_edge.engine.cache import Engine
from tests.parity.engine_process import EngineProcess
from tests.parity.models import ModelStore


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Seeded models, made when first asked for."""
    return ModelStore(tmp_path_factory.mktemp("parity"))


@pytest.fixture(scope="session")
def edge(engine: Engine) -> Iterator[EngineProcess]:
    """A process on the patched engine."""
    process = EngineProcess(engine.library_environment())
    yield process
    process.close()


@pytest.fixture(scope="session")
def stock(stock_engine: Engine) -> Iterator[EngineProcess]:
    """A process on upstream's engine."""
    process = EngineProcess(stock_engine.library_environment())
    yield process
    process.close()
