"""Running the engine's own tests: passed, failed, and the real ones' small part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.engine import build, selftest
from plm_edge.engine.build import Extras
from plm_edge.engine.cache import Engine
from plm_edge.engine.selftest import TestRun
from tests.engine.conftest import Mini


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
