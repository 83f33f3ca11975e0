"""Runs one job: llama-bench of one engine, watched, its JSON turned into samples."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plm_edge import shell
from plm_edge.bench.plan import Job, Test
from plm_edge.bench.sampler import (
    CLOSE_POLL_SECONDS,
    LOOSE_POLL_SECONDS,
    Observed,
    Sampler,
)
from plm_edge.engine.cache import Engine
from plm_edge.errors import ToolError

TOOL = "llama-bench"


@dataclass(frozen=True)
class Conditions:
    """What a far device told meanwhile; watts by test, None where it does not tell."""

    is_throttled: bool = False
    began_hot: bool = False
    has_under_voltage: bool = False
    is_pinned: bool | None = None
    governor: str | None = None
    watts: Mapping[Test, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a job measured: tokens per second of each test, and its process."""

    job: Job
    command: tuple[str, ...]
    speeds: tuple[tuple[Test, float], ...]
    observed: Observed
    conditions: Conditions | None = None


def run(job: Job, engine: Engine) -> Outcome:
    """Run one job to its end; `ToolError` with the engine's last lines if it fails."""
    command = (str(engine.tool(TOOL)), *job.arguments())
    poll_seconds = CLOSE_POLL_SECONDS if job.measures_memory else LOOSE_POLL_SECONDS
    text, observed = _watched(command, engine.run_environment(), poll_seconds)
    return Outcome(job, command, speeds(text, job), observed)


def _watched(
    command: tuple[str, ...], environment: Mapping[str, str], poll_seconds: float
) -> tuple[str, Observed]:
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            env=shell.merged_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
        )
        with Sampler(process.pid, poll_seconds) as sampler:
            text = _output_of(process)
        if process.returncode != 0:
            errors.seek(0)
            raise ToolError(_failure(command, process.returncode, errors.read()))
    return text, sampler.observed()


def _output_of(process: subprocess.Popen[str]) -> str:
    """Everything the process prints, once it has ended."""
    assert process.stdout is not None
    try:
        with process.stdout:
            text = process.stdout.read()
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return text


def _failure(command: tuple[str, ...], status: int, output: str) -> str:
    text = shell.failure_text(command, status, output)
    return f"{text}\n(signal {-status})" if status < 0 else text


def speeds(text: str, job: Job) -> tuple[tuple[Test, float], ...]:
    """The tokens per second in llama-bench's JSON, one for each test of the job, in order."""
    entries = _entries(text)
    found = []
    for test in job.tests:
        entry = next((entry for entry in entries if _is_of(entry, test, job)), None)
        samples = entry.get("samples_ns") if entry else None
        if not isinstance(samples, list) or not samples or not samples[0] > 0:
            raise ToolError(f"{TOOL} gave no time for {test.label} at depth {test.depth}")
        # Tokens counted here: llama-bench adds up prompt and generation.
        found.append((test, 1e9 * _counted(entry) / samples[0]))
    return tuple(found)


def _entries(text: str) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise ToolError(f"{TOOL} printed no JSON: {text[:200]!r}") from error
    return (
        [entry for entry in parsed if isinstance(entry, dict)] if isinstance(parsed, list) else []
    )


def _is_of(entry: Mapping[str, Any], test: Test, job: Job) -> bool:
    numbers = (entry.get("n_prompt"), entry.get("n_gen"), entry.get("n_depth"))
    if job.measures_memory:
        return numbers == (test.depth, test.tokens, 0)
    if test.kind == "prompt":
        return numbers == (test.tokens, 0, test.depth)
    return numbers == (0, test.tokens, test.depth)


def _counted(entry: Mapping[str, Any] | None) -> int:
    assert entry is not None
    return int(entry["n_prompt"]) + int(entry["n_gen"])
