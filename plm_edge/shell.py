"""Running other programs: lists of arguments only, output logged, failures told in our words."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge.errors import MissingToolError, ToolError

# What a Debian or Ubuntu user types to get a tool; the name itself where no entry differs.
DEBIAN_PACKAGES = {
    "c++": "g++",
    "cc": "gcc",
    "ssh": "openssh-client",
    "npm": "npm nodejs",
    "ninja": "ninja-build",
    "qemu-aarch64": "qemu-user",
}


@dataclass(frozen=True)
class Completed:
    """What a program left behind: its exit status and both streams as text."""

    command: tuple[str, ...]
    exit_status: int
    stdout: str
    stderr: str


def quote(command: Sequence[str | Path]) -> str:
    """The command as one line a user can paste into a shell."""
    return shlex.join(str(part) for part in command)


def which(tool: str) -> Path:
    """The path of `tool`; `MissingToolError` with the command that installs it."""
    found = shutil.which(tool)
    if found is None:
        raise missing_tool(tool)
    return Path(found)


def missing_tool(tool: str) -> MissingToolError:
    """The error that names a missing tool and how to get it."""
    package = DEBIAN_PACKAGES.get(tool, tool)
    return MissingToolError(f"{tool} is not installed", hint=f"sudo apt-get install {package}")


def capture(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
    check: bool = True,
) -> Completed:
    """Run a short program and return its output; `ToolError` on a non-zero exit if `check`."""
    words = tuple(str(part) for part in command)
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=merged_environment(env),
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise missing_tool(words[0]) from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{quote(words)}: no end after {timeout_seconds:g} s") from error
    completed = Completed(
        words,
        done.returncode,
        done.stdout.decode("utf-8", "replace"),
        done.stderr.decode("utf-8", "replace"),
    )
    if check and done.returncode != 0:
        raise ToolError(failure_text(words, done.returncode, completed.stderr or completed.stdout))
    return completed


def run_logged(
    command: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> None:
    """Run a long program with its output appended to `log`; each line also goes to `on_line`.

    The program inherits `pass_fds`, such as a lock it must keep if this process is killed.
    Raises `ToolError` with the command, the last lines and the log's path. The program is
    ended when this one is interrupted.
    """
    words = tuple(str(part) for part in command)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", buffering=1) as sink:
        sink.write(f"$ {quote(words)}\n")
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=merged_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=pass_fds,
            )
        except FileNotFoundError as error:
            raise missing_tool(words[0]) from error
        status = _drain(process, sink.write, on_line)
    if status != 0:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise ToolError(f"{failure_text(words, status, text)}\nfull log: {log}")


def _drain(
    process: subprocess.Popen[str],
    write: Callable[[str], object],
    on_line: Callable[[str], None] | None,
) -> int:
    assert process.stdout is not None
    with process:
        try:
            for line in process.stdout:
                write(line)
                if on_line is not None:
                    on_line(line.rstrip("\n"))
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def failure_text(command: Sequence[str], status: int, output: str, last_lines: int = 20) -> str:
    """The command, its exit status and its last lines, for a message."""
    tail = "\n".join(output.rstrip().splitlines()[-last_lines:])
    return f"{quote(command)} ended with status {status}" + (f":\n{tail}" if tail else "")


def merged_environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment with `extra` on top."""
    return {**os.environ, **(extra or {})}
