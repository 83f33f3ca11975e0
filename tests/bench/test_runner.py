"""llama-bench runs, its JSON understood, its failures told."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from plm_edge.bench import plan, runner
from plm_edge.bench.plan import Job, Side
from plm_edge.engine.cache import Engine
from plm_edge.errors import ToolError
from tests.quantize.tiny import write_model

PROMPT, WRITTEN = plan.Test("prompt", 16, 8), plan.Test("generation", 4, 8)


def entry(prompt: int, generated: int, depth: int, nanoseconds: int = 10**9) -> dict[str, Any]:
    counts = {"n_prompt": prompt, "n_gen": generated, "n_depth": depth}
    return {**counts, "samples_ns": [nanoseconds]}


def job(*tests: plan.Test, memory: bool = False) -> Job:
    return Job(Side("edge", Path("m.gguf"), 1), tests, 0, measures_memory=memory)


def test_speeds_are_found_by_test_and_not_by_order() -> None:
    text = json.dumps([entry(0, 4, 8, 2 * 10**9), entry(16, 0, 8)])
    assert runner.speeds(text, job(PROMPT, WRITTEN)) == ((PROMPT, 16.0), (WRITTEN, 2.0))


def test_a_memory_run_counts_both_parts() -> None:
    test = plan.Test("generation", 32, 480)
    assert runner.speeds(json.dumps([entry(480, 32, 0)]), job(test, memory=True)) == (
        (test, 512.0),
    )


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "[1]", "[]", '[{"n_prompt": 16, "n_gen": 0, "n_depth": 8}]']
)
def test_output_without_the_time_is_an_error(text: str) -> None:
    with pytest.raises(ToolError, match=r"llama-bench (printed no JSON|gave no time)"):
        runner.speeds(text, job(PROMPT))


def test_a_real_run(tmp_path: Path, engine: Engine) -> None:
    model = write_model(tmp_path / "an ö model.gguf", dtype="q8_0")
    side = Side("edge", model, 1, "q8_0")
    outcome = runner.run(Job(side, (PROMPT, WRITTEN), 0), engine)
    assert [test for test, _ in outcome.speeds] == [PROMPT, WRITTEN]
    assert all(speed > 0 for _, speed in outcome.speeds)


def test_a_memory_run_is_real_too(tmp_path: Path, stock_engine: Engine) -> None:
    model = write_model(tmp_path / "m.gguf", layout="stock")
    side = Side("stock", model, 1, flash="off")
    test = plan.Test("generation", 64, 448)
    outcome = runner.run(Job(side, (test,), 0, measures_memory=True), stock_engine)
    assert outcome.observed.peak_rss_bytes > 448 * 3 * 4 * (192 + 64) * 2


def test_our_own_peak_is_not_the_engine_s(tmp_path: Path, engine: Engine) -> None:
    ours = b"\1" * (768 << 20)  # a buffer as large as the bandwidth measurement's, and then some
    del ours
    model = write_model(tmp_path / "m.gguf")
    test = plan.Test("generation", 4, 60)
    job = Job(Side("edge", model, 1), (test,), 0, measures_memory=True)
    assert runner.run(job, engine).observed.peak_rss_bytes < 512 << 20


def test_a_failing_run_shows_command_and_reason(engine: Engine) -> None:
    with pytest.raises(ToolError, match=r"llama-bench -m m\.gguf .* ended with status 1"):
        runner.run(job(WRITTEN), engine)


def test_a_crash_names_its_signal(tmp_path: Path) -> None:
    tool = tmp_path / "llama-bench"
    tool.write_text("#!/bin/sh\necho 'ggml.c:1: GGML_ASSERT(x) failed' >&2\nkill -ABRT $$\n")
    tool.chmod(0o755)

    with pytest.raises(ToolError, match=r"GGML_ASSERT\(x\) failed\n\(signal 6\)"):
        runner.run(job(WRITTEN), fake_engine(tmp_path))
    assert os.listdir(tmp_path) == ["llama-bench"]


@dataclass
class Told:
    """A stream that tells when it is being read."""

    stream: IO[str]
    is_read: threading.Event

    def read(self) -> str:
        self.is_read.set()
        return self.stream.read()

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()


def fake_engine(folder: Path) -> Any:
    return SimpleNamespace(tool=lambda name: folder / name, run_environment=dict)


def test_an_interrupt_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "llama-bench"
    tool.write_text('#!/bin/sh\necho $$ > "$(dirname "$0")/pid"\nexec sleep 60\n')
    tool.chmod(0o755)

    is_read = threading.Event()
    real = runner._output_of

    def told(process: Any) -> str:
        process.stdout = Told(process.stdout, is_read)
        return real(process)

    def interrupt() -> None:
        # The tool may write before Popen has returned in the thread interrupted.
        assert is_read.wait(60)
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(runner, "_output_of", told)
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run(job(WRITTEN), fake_engine(tmp_path))
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
