"""Shared fixtures: own config, state and overlay folders per test; one engine per session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from plm_edge import paths, resources
from tests.engine_fixtures import engine, stock_engine

__all__ = ["engine", "stock_engine"]

# Small matrices: BLAS threads would only wait for each other, for minutes on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What a terminal or a CI service says about output, and a proxy for what is on this machine, would
# reach the programs that tests run.
for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"):
    os.environ.pop(name, None)
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
os.umask(0o022)

# Made-up examples are the same in every run, and none is too slow for a slow machine.
settings.register_profile(
    "everywhere",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("everywhere")

# A shell starts its background jobs with Ctrl-C ignored, and what ignores it here ignores it in the
# programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Built engines take minutes: tests share the user's cache, everything else is per test.
ENGINE_CACHE = os.environ.get("PLM_EDGE_CACHE", str(paths.cache_dir()))


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test gets its own config, cache and state folders, and no overlay."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PLM_EDGE_CONFIG", str(home / "config"))
    monkeypatch.setenv("PLM_EDGE_CACHE", str(home / "cache"))
    monkeypatch.setenv("PLM_EDGE_STATE", str(home / "state"))
    monkeypatch.delenv("PLM_EDGE_OVERLAY", raising=False)
    monkeypatch.setattr(resources, "_overlay", None)
    return home


@pytest.fixture
def engine_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Points the cache at the user's, for tests that use a built engine."""
    monkeypatch.setenv("PLM_EDGE_CACHE", ENGINE_CACHE)
    yield Path(ENGINE_CACHE)
