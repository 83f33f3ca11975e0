"""What a benchmark will run, in which order: pure, so that it can be shown before it starts.

One process per engine, depth and round. The rounds alternate between the engines, so that
whatever else the machine does (heat, neighbours) meets both; a fresh process per round also
measures again what a process draws by chance, such as where its memory lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Flash = Literal["auto", "on", "off"]
Kind = Literal["prompt", "generation"]

_UNKNOWN_BYTES = 1_200_000_000  # a 4-bit PLM-1.8B, for files that are yet to be made
_START_SECONDS = 1.0
_FASTEST = 20_000.0


@dataclass(frozen=True)
class Test:
    """So many tokens read (prompt) or written (generation) after `depth` others."""

    kind: Kind
    tokens: int
    depth: int

    @property
    def label(self) -> str:
        """As the tables show it."""
        return f"{self.kind} {self.tokens}"


@dataclass(frozen=True)
class Side:
    """An engine with a file and its settings."""

    variant: Literal["edge", "stock"]
    file: Path
    threads: int
    cache_type: str = "f16"
    flash: Flash = "auto"

    @property
    def label(self) -> str:
        """As progress lines show it."""
        return f"{self.variant}, {self.cache_type} cache, {self.threads} threads"


@dataclass(frozen=True)
class Job:
    """One process: a side, and its tests at one depth. `counts` is False for the memory run."""

    side: Side
    tests: tuple[Test, ...]
    round: int
    measures_memory: bool = False

    def arguments(self) -> list[str]:
        """The words after `llama-bench`."""
        words = ["-m", str(self.side.file), "-o", "json", "-r", "1", "-t", str(self.side.threads)]
        words += ["-ctk", self.side.cache_type, "-ctv", self.side.cache_type]
        words += ["-fa", {"auto": "auto", "on": "1", "off": "0"}[self.side.flash]]
        if self.measures_memory:
            return [*words, *self._whole_context()]
        words += ["-d", str(self.tests[0].depth)]
        words += ["-p", _tokens(self.tests, "prompt"), "-n", _tokens(self.tests, "generation")]
        return words

    def _whole_context(self) -> list[str]:
        """One pass without a saved state, which would count twice, and without a warm-up."""
        test = self.tests[0]
        return ["-p", "0", "-n", "0", "-pg", f"{test.depth},{test.tokens}", "--no-warmup"]


@dataclass(frozen=True)
class Rounds:
    """Which tests on which sides, how often; `memory_context` adds one memory run per side."""

    sides: tuple[Side, ...]
    tests: tuple[Test, ...]
    repeats: int
    memory_context: int | None = None

    def jobs(self) -> list[Job]:
        """Every process in order: depth by depth, in each round every side once."""
        timed = [job for depth in self._depths() for job in self._at(depth)]
        return [*timed, *self._memory_jobs()]

    def _depths(self) -> list[int]:
        return sorted({test.depth for test in self.tests})

    def _at(self, depth: int) -> Iterator[Job]:
        tests = tuple(test for test in self.tests if test.depth == depth)
        for number in range(self.repeats):
            # AB BA AB: neither side always runs on what the other left behind.
            for side in self.sides if number % 2 == 0 else self.sides[::-1]:
                yield Job(side, tests, number)

    def _memory_jobs(self) -> Iterator[Job]:
        if self.memory_context is not None:
            written = min(32, self.memory_context // 2)
            test = Test("generation", written, self.memory_context - written)
            for side in self.sides:
                yield Job(side, (test,), 0, measures_memory=True)


def _tokens(tests: Sequence[Test], kind: Kind) -> str:
    return ",".join(str(test.tokens) for test in tests if test.kind == kind) or "0"


@dataclass(frozen=True)
class Pace:
    """A guess at speeds from the sizes of files, for the estimate before anything is measured.

    Decoding at half the memory bus; prompts at 90 tok/s for each core and GB of weights, which is
    what two Zen 5 cores do (2026-11), and which smaller cores miss by far.
    """

    file_bytes: Mapping[Path, int]
    gigabytes_per_second: float
    cores: int

    def seconds(self, job: Job) -> float:
        """About how long a job takes; warm-ups and the way down to the depth included."""
        gigabytes = max(self.file_bytes.get(job.side.file, _UNKNOWN_BYTES) / 1e9, 1e-6)
        prompts = sum(test.tokens for test in job.tests if test.kind == "prompt")
        written = sum(test.tokens + 1 for test in job.tests if test.kind == "generation")
        read = job.tests[0].depth + 2 * prompts
        deep = 1 + job.tests[0].depth / 4096  # attention's share grows with the depth
        return (
            _START_SECONDS
            + deep * read / min(90 * self.cores / gigabytes, _FASTEST)
            + deep * written / min(0.5 * self.gigabytes_per_second / gigabytes, _FASTEST)
        )
