"""Times `plm-edge convert` against upstream's own converter, in turns, and compares the weights.

usage: compare_convert.py CHECKPOINT [f16|q8_0|bf16|f32] [PAIRS] [WORK FOLDER]

Upstream runs from the pinned source and needs torch and transformers. Ours ends when the file is
on the disk; of upstream's two times the first is its own end, the second is behind an fsync.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from plm_edge import resources
from plm_edge.engine import source, upstream
from plm_edge.gguf_header import read_header

RUNNER = Path(__file__).parent.parent / "tests" / "parity" / "upstream" / "run_upstream.py"
PRE_TOKENIZER = "qwen2"
READ_BYTES = 1 << 24


@dataclass(frozen=True)
class Run:
    """What one conversion cost."""

    seconds: float
    on_disk_seconds: float
    processor_seconds: float
    peak_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.1f} s, on disk {self.on_disk_seconds:6.1f} s, "
            f"{self.processor_seconds:5.1f} s of processor, {self.peak_bytes / 1e6:5.0f} MB peak"
        )


def timed(command: list[str], output: Path) -> Run:
    """Run `command`, its chatter dropped, and wait for `output` to reach the disk."""
    start = time.monotonic()
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    ended = time.monotonic()
    if status:
        sys.exit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    with output.open("rb") as file:
        os.fsync(file.fileno())
    on_disk = time.monotonic()
    processor_seconds = usage.ru_utime + usage.ru_stime
    return Run(ended - start, on_disk - start, processor_seconds, usage.ru_maxrss * 1024)


def weights_digest(path: Path) -> str:
    """SHA-256 of everything behind the header: metadata may name the weights random."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(read_header(path).data_offset)
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def compare(checkpoint: Path, kind: str, pairs: int, folder: Path) -> None:
    """Run the pairs, print each, then the medians."""
    pin = upstream.load(resources.folder("patches"))
    source.unpack(source.fetch(pin), pin, folder / "tree")
    ours, theirs, jobs = folder / "ours.gguf", folder / "theirs.gguf", folder / "jobs.json"
    jobs.write_text(json.dumps([[str(checkpoint), kind, str(theirs), PRE_TOKENIZER]]))
    our_command = [sys.executable, "-m", "plm_edge", "convert", str(checkpoint), "-o", str(ours)]
    our_command += ["--layout", "stock", "--type", kind]
    their_command = [sys.executable, str(RUNNER), str(folder / "tree"), str(jobs)]
    found: list[tuple[Run, Run]] = []
    for number in range(pairs):
        pair = timed(our_command, ours), timed(their_command, theirs)
        found.append(pair)
        ratio = pair[1].seconds / pair[0].seconds
        print(f"{kind} plm-edge {pair[0]}\n{kind} upstream {pair[1]}   {ratio:.2f}x", flush=True)
        if number == pairs - 1 and weights_digest(ours) != weights_digest(theirs):
            sys.exit(f"{kind}: the weights differ")
        ours.unlink()
        theirs.unlink()
    ours_median, theirs_median = (
        median(run.seconds for run in runs) for runs in zip(*found, strict=True)
    )
    ratio = median(theirs.seconds / ours.seconds for ours, theirs in found)
    print(
        f"{kind}: medians {ours_median:.1f} s and {theirs_median:.1f} s, ratio {ratio:.2f}, "
        "the same weights byte for byte"
    )


def main() -> None:
    """Read the arguments and compare in a folder that is removed at the end."""
    checkpoint, kind, pairs, place = (*sys.argv[1:], *("", "f16", "3", None)[len(sys.argv) - 1 :])
    if not checkpoint:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(dir=place, prefix="compare-convert.") as folder:
        compare(Path(checkpoint).resolve(), kind, int(pairs), Path(folder))


if __name__ == "__main__":
    main()
