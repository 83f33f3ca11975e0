"""One line of the results file per engine and test: everything to run it again and to judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from plm_edge import results, schema
from plm_edge.bench.stats import Summary, summary

KIND = "bench"
VERSION = 1


@dataclass(frozen=True)
class EngineRef:
    """The engine that ran."""

    variant: Literal["edge", "stock"]
    key: str
    package: str
    version: str
    commit: str


@dataclass(frozen=True)
class ModelRef:
    """The file that was run; `types` holds bytes by tensor type."""

    path: str
    sha256: str
    file_bytes: int
    layout: str
    parameters: int
    types: dict[str, int]
    is_random: bool

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name

    @property
    def label(self) -> str:
        """Name and layout, and that the weights are random if they are."""
        return f"{self.name} ({self.layout}{', random weights' if self.is_random else ''})"


@dataclass(frozen=True)
class MachineRef:
    """The machine; rows are compared only where `key` is the same."""

    key: str
    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    memory_bytes: int
    kernel: str
    bandwidth_gigabytes_per_second: float | None = None
    governor: str | None = None
    # Who says so, where it was not measured right there.
    bandwidth_source: str | None = None

    @property
    def label(self) -> str:
        """As table headings show it."""
        about = f"{self.cpu}, {self.cores} cores, {self.memory_bytes / 2**30:.0f} GiB"
        rate = self.bandwidth_gigabytes_per_second
        reads = "read bandwidth unknown" if rate is None else f"reads {rate:.1f} GB/s"
        source = f" ({self.bandwidth_source})" if self.bandwidth_source else ""
        return f"{about}, {reads}{source}"


@dataclass(frozen=True)
class TestRef:
    """What was measured; a `memory` test fills a context of `tokens` and times nothing."""

    kind: Literal["prompt", "generation", "memory"]
    tokens: int
    depth: int


@dataclass(frozen=True)
class Settings:
    """What the engine was told."""

    threads: int
    cache_type: str
    flash: str


@dataclass(frozen=True)
class Memory:
    """Peaks of the process, in bytes."""

    rss_bytes: int
    anonymous_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Reading:
    """Bytes read for a token, and which share of the neurons was live (None: all are read)."""

    bytes_per_token: float
    live_fraction: float | None = None
    live_fraction_is_measured: bool = False
    live_by_layer: tuple[float, ...] = ()


@dataclass(frozen=True)
class DeviceRef:
    """The device a row was measured on, if not right here, and how it felt.

    An emulated device runs the same instructions at no speed that means anything: its rows hold
    no samples. `throttled_runs` of the samples were taken while heat or power slowed the cores,
    `hot_runs` began although the device had not cooled down.
    """

    name: str
    is_emulated: bool = False
    throttled_runs: int = 0
    hot_runs: int = 0
    has_under_voltage: bool = False
    is_pinned: bool | None = None
    watts: float | None = None
    joules_per_token: float | None = None


@dataclass(frozen=True)
class Row:
    """One engine's result on one test."""

    run: str
    date: str
    case: str
    engine: EngineRef
    model: ModelRef
    machine: MachineRef
    test: TestRef
    settings: Settings
    command: str
    samples: tuple[float, ...]
    cache_bytes_per_token: int
    plm_edge: str
    load_average: float = 0.0
    memory: Memory | None = None
    reading: Reading | None = None
    temperature_celsius: float | None = None
    clock_megahertz: float | None = None
    device: DeviceRef | None = None

    @property
    def speed(self) -> Summary | None:
        """Tokens per second; None for a memory test."""
        return summary(self.samples) if self.samples else None

    @property
    def gigabytes_per_second(self) -> float | None:
        """What the median speed makes of the bytes per token."""
        if self.reading is None or self.speed is None:
            return None
        return self.speed.median * self.reading.bytes_per_token / 1e9

    @property
    def bandwidth_share(self) -> float | None:
        """The share of the machine's read bandwidth that is."""
        reached, most = self.gigabytes_per_second, self.machine.bandwidth_gigabytes_per_second
        return None if reached is None or most is None else reached / most


def write(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a results file."""
    for row in rows:
        results.append(path, {"kind": KIND, "version": VERSION, **asdict(row)})


@dataclass(frozen=True)
class RowsRead:
    """The benchmark rows of a results file, and a line for each that could not be read."""

    rows: tuple[Row, ...]
    skipped: tuple[str, ...]


def read(path: Path) -> RowsRead:
    """The benchmark rows of a results file; other kinds of rows are left alone."""

    def build(table: dict[str, Any]) -> Row:
        return schema.build(_without_none(table), Row, path)

    return RowsRead(*results.read_kind(path, KIND, VERSION, build))


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's null is a key left out: the schema knows no other absence."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }
