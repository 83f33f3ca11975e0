"""Running the engine's own tests: passed, failed, and the real ones' small part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge import shell
from plm_edge.engine import build, selftest
from plm_edge.engine.build import Extras
from plm_edge.engine.cache import Engine
from plm_edge.engine.selftest import TestRun
from tests.engine.conftest import Mini
from tests.engine_fixtures import tested_engine

__all__ = ["tested_engine"]


@pytest.fixture
def tested(mini: Mini) -> Engine:
    """The miniature engine with a test that fails beside the one that passes."""
    engine = build.ensure("edge", extras=Extras(tests=True))
    failing = engine.folder / "tests" / "test-plm-broken"
    failing.write_text('#!/bin/sh\necho "wrong: $#"\nexit 3\n', encoding="utf-8")
    failing.chmod(0o755)
    return engine


def test_every_program_is_run_and_told(tested: Engine) -> None:
    told: list[TestRun] = []
    results = selftest.run_all(tested, told.append)
    assert results == told
    assert [(result.name, result.is_passed) for result in results] == [
        ("test-llama-archs", True),
        ("test-plm-broken", False),
    ]
    assert results[1].output == "wrong: 0\n"


def test_upstreams_check_is_asked_for_plm_alone(tested: Engine) -> None:
    program = tested.folder / "tests" / "test-llama-archs"
    program.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    assert selftest.run(tested, program).output == "-a plm\n"


def test_an_engine_without_tests_has_none(mini: Mini, tmp_path: Path) -> None:
    engine = replace(build.ensure("edge"), folder=tmp_path)
    assert selftest.run_all(engine, lambda result: None) == []


def test_upstreams_check_passes_on_both_layouts(tested_engine: Engine, tmp_path: Path) -> None:
    program = tested_engine.folder / "tests" / "test-llama-archs"
    result = selftest.run(tested_engine, program)
    assert result.is_passed, result.output
    # It exits 0 as well when it leaves an architecture out, and upstream's logger may lose the
    # summary at exit; what it can test it can also save.
    shell.capture([program, "-a", "plm", "-o", f"{tmp_path}/"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plm-dense.gguf", "plm-moe.gguf"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_kernel_agrees_with_double_precision(tested_engine: Engine) -> None:
    results = selftest.run_all(tested_engine, lambda result: None)
    assert {"test-llama-archs", "test-plm-attn", "test-plm-ffn"} <= {r.name for r in results}
    assert [result.name for result in results if not result.is_passed] == []
