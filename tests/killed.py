"""A `plm-edge` that dies as by `kill -9` at a chosen moment, however fast the machine.

usage: killed.py ROWS WORD...: it runs `plm-edge WORD...` and is dead once it has written that many
rows. A signal from outside comes when the machine gets round to it, maybe after the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from plm_edge import results
from plm_edge.__main__ import main


def run_killed(rows: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run `plm-edge WORD...` until it has written so many rows."""
    command = [sys.executable, __file__, str(rows), *words]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done


def _die_after(rows: int) -> None:
    real, left = results.append, rows

    def append(*arguments: Any) -> None:
        nonlocal left
        real(*arguments)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    results.append = append


if __name__ == "__main__":
    _die_after(int(sys.argv[1]))
    sys.argv = ["plm-edge", *sys.argv[2:]]
    main()
