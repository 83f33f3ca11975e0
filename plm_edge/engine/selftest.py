"""The engine's own tests: upstream's architecture check on PLM, and ours of the kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plm_edge import shell
from plm_edge.engine.cache import Engine

# Upstream's program checks every architecture in turn; PLM's takes a second.
ARGUMENTS: dict[str, tuple[str, ...]] = {"test-llama-archs": ("-a", "plm")}


@dataclass(frozen=True)
class TestRun:
    """One test program: whether it passed, how long it took, and what it wrote."""

    name: str
    is_passed: bool
    seconds: float
    output: str

    # pytest takes every class of this name for tests
    __test__ = False


def run_all(engine: Engine, on_result: Callable[[TestRun], None]) -> list[TestRun]:
    """Run every test program of an engine that was built with tests."""
    results = []
    for program in engine.test_programs():
        results.append(run(engine, program))
        on_result(results[-1])
    return results


def run(engine: Engine, program: Path) -> TestRun:
    """Run one test program."""
    started = time.monotonic()
    command: list[str | Path] = [program, *ARGUMENTS.get(program.name, ())]
    done = shell.capture(command, env=engine.run_environment(), check=False)
    seconds = round(time.monotonic() - started, 2)
    return TestRun(program.name, done.exit_status == 0, seconds, done.stdout + done.stderr)
