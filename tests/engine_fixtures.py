"""The built engines, once per session, from the user's cache (built there on a fresh machine)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plm_edge import paths
from plm_edge.engine import build
from plm_edge.engine.build import Extras
from plm_edge.engine.cache import Engine
from plm_edge.engine.plan import Variant

# Read at import, before any test gets folders of its own.
USER_CACHE = os.environ.get("PLM_EDGE_CACHE", str(paths.cache_dir()))


def _ensure(variant: Variant, no_config: Path, *, tests: bool = False) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE", USER_CACHE)
        patch.setenv("PLM_EDGE_CONFIG", str(no_config))  # the shipped patches, nobody's own
        patch.delenv("PLM_EDGE_OVERLAY", raising=False)
        return build.ensure(variant, extras=Extras(tests=tests))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The patched engine for this machine."""
    return _ensure("edge", tmp_path_factory.mktemp("no-config"))


@pytest.fixture(scope="session")
def stock_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Upstream's engine, built with the same flags and no patch."""
    return _ensure("stock", tmp_path_factory.mktemp("no-config"))


@pytest.fixture(scope="session")
def tested_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The patched engine with its own test programs."""
    return _ensure("edge", tmp_path_factory.mktemp("no-config"), tests=True)
