"""A person at a keyboard: `plm-edge` commands typed in a folder, with devices of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engine_fixtures import USER_CACHE

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class User:
    """Where they sit, and what their environment adds to ours."""

    folder: Path
    environment: Mapping[str, str]

    def plm_edge(
        self, *words: str, stdin: str = "", seconds: float = 280
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; it says nothing about the exit status."""
        return subprocess.run(
            [sys.executable, "-m", "plm_edge", *words],
            cwd=self.folder,
            env=self.whole_environment(),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )

    def succeeds(self, *words: str, stdin: str = "", seconds: float = 280) -> str:
        """Run a command that must succeed; what it printed."""
        done = self.plm_edge(*words, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(self, *words: str, status: int = 3, seconds: float = 280) -> str:
        """Run a command that must fail with `status`; what it said on stderr."""
        done = self.plm_edge(*words, seconds=seconds)
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that runs within the block; both its outputs come as one stream."""
        process = subprocess.Popen(
            [sys.executable, "-m", "plm_edge", *words],
            cwd=self.folder,
            env=self.whole_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def whole_environment(self) -> dict[str, str]:
        """Ours, theirs on top; the built engines are everybody's."""
        return {
            **os.environ,
            "PLM_EDGE_CONFIG": str(self.folder / "config"),
            "PLM_EDGE_STATE": str(self.folder / "state"),
            "PLM_EDGE_CACHE": USER_CACHE,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **self.environment,
        }


def eventually(is_so: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.2)
