"""The shell line that runs a program on the far side, ends it with us, and tells how it ended.

It needs no more than a POSIX shell there: dash, bash, busybox ash and Android's mksh all run it.
While the program runs, this side sends a beat down the line's stdin every few seconds. No more
beats, or the end of stdin, mean that nobody waits any longer: the program is ended. The last
line on stderr tells the exit status, so that a line that broke is never taken for a program
that failed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

BEAT = b".\n"
BEAT_SECONDS = 10.0
SILENCE_SECONDS = 45

STATUS_MARK = "plm-edge-status:"
_STATUS = re.compile(rf"{STATUS_MARK}(\d+)\n?\Z")

# dash has no `read -t`: there a dead line shows only once the far system itself closes stdin.
# Whether a shell has it is asked with the same limit: however busy the machine, an echo comes.
_WATCHED = (
    "exec 3<&0 </dev/null; "
    f"t='-t {SILENCE_SECONDS}'; (echo | read $t b) 2>/dev/null || t=; "
    '"$@" 3<&- & c=$!; '
    "(while read $t b <&3; do :; done; "
    "kill -TERM $c; exec 3<&-; sleep 2; kill -KILL $c) >/dev/null 2>&1 & w=$!; "
    "exec 3<&-; wait $c; s=$?; kill $w 2>/dev/null; "
    f"echo {STATUS_MARK}$s >&2; exit $s"
)
# The program reads our stdin itself and ends with it.
_FED = f'"$@"; s=$?; echo {STATUS_MARK}$s >&2; exit $s'

# bash where there is one, since it has `read -t`.
_LAUNCH = (
    'command -v bash >/dev/null 2>&1 && exec bash -c "$0" plm-edge "$@"; '
    'exec sh -c "$0" plm-edge "$@"'
)


def watched_line(argv: Sequence[str]) -> str:
    """The line that runs `argv` with no stdin, and ends it when the beats stop."""
    return shlex.join(["sh", "-c", _LAUNCH, _WATCHED, *argv])


def fed_line(argv: Sequence[str]) -> str:
    """The line that runs `argv` with this side's stdin."""
    return shlex.join(["sh", "-c", _FED, "plm-edge", *argv])


def split_status(stderr: str) -> tuple[str, int | None]:
    """What the program said on stderr, and its exit status; None if the line broke before."""
    found = _STATUS.search(stderr)
    return (stderr[: found.start()], int(found[1])) if found else (stderr, None)
