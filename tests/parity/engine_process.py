"""The tests' end of the driver: starts it on an engine's libraries, asks, reads the logits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DRIVER = Path(__file__).with_name("driver.py")


class EngineFailure(Exception):
    """The engine refused a step, or died; carries its last lines."""


class EngineProcess:
    """A driver on one engine; a crash ends the job, the next job starts a new process."""

    def __init__(self, library_environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **library_environment, "OMP_WAIT_POLICY": "passive"}
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="plm-edge-parity-")
        self.last: dict[str, Any] = {}

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            with self._path("log").open("w") as log:
                self._process = subprocess.Popen(
                    [sys.executable, str(DRIVER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=self._environment,
                    text=True,
                )
        return self._process

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def run(self, model: Path, steps: Sequence[Sequence[Any]], **context: Any) -> np.ndarray:
        """(tokens, vocab) float64 logits of every token the steps decode, in order."""
        out = self._path("logits.npy")
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        job = {"model": str(model), "steps": steps, "out": str(out), **context}
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            status = self._stop()
            log = self._path("log").read_text(errors="replace")[-2000:]
            raise EngineFailure(f"the engine died with status {status}:\n{log}")
        self.last = json.loads(line)
        if "error" in self.last:
            raise EngineFailure(self.last["error"])
        return np.load(out).astype(np.float64)

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.communicate()
        return process.returncode

    def close(self) -> None:
        """End the process and remove its files."""
        self._stop()
        self._folder.cleanup()
