"""A whole benchmark: rounds run one after the other, their outcomes gathered into rows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from plm_edge import __version__, shell
from plm_edge.bench import roofline, rows, runner
from plm_edge.bench.bandwidth import Bandwidth
from plm_edge.bench.live import Live
from plm_edge.bench.machine import Machine
from plm_edge.bench.plan import Job, Pace, Rounds, Side, Test
from plm_edge.bench.runner import Outcome
from plm_edge.bench.sampler import Observed
from plm_edge.console import Progress, no_progress
from plm_edge.engine.cache import Engine
from plm_edge.gguf_header import GgufHeader


@dataclass(frozen=True)
class Model:
    """A file to run: its header, its hash, and what is known of its live neurons."""

    header: GgufHeader
    sha256: str
    live: Live | None = None


@dataclass(frozen=True)
class Bench:
    """What all rounds of one run share."""

    machine: Machine
    bandwidth: Bandwidth
    engines: Mapping[str, Engine]
    models: Mapping[Path, Model]
    load_average: float = 0.0
    run: str = field(default_factory=lambda: f"{_now()}-{secrets.token_hex(2)}")

    def measure(
        self, rounds: Rounds, pace: Pace, case: str = "", progress: Progress = no_progress
    ) -> list[rows.Row]:
        """Run every job and return a row per side and test; `progress` counts seconds, roughly."""
        jobs = rounds.jobs()
        expected = [pace.seconds(job) for job in jobs]
        outcomes: list[Outcome] = []
        for number, job in enumerate(jobs):
            progress(round(sum(expected[:number])), round(sum(expected)))
            outcomes.append(runner.run(job, self.engines[job.side.variant]))
        progress(round(sum(expected)), round(sum(expected)))
        return self.gather(outcomes, case)

    def gather(self, outcomes: Sequence[Outcome], case: str) -> list[rows.Row]:
        """The rows of finished jobs: samples of the same side and test together, in order."""
        grouped: dict[tuple[Side, rows.TestRef], list[tuple[Outcome, float]]] = {}
        for outcome in outcomes:
            for test, speed in outcome.speeds:
                key = (outcome.job.side, _test(test, outcome.job))
                grouped.setdefault(key, []).append((outcome, speed))
        return [self._row(*key, found, case) for key, found in grouped.items()]

    def _row(
        self, side: Side, test: rows.TestRef, found: list[tuple[Outcome, float]], case: str
    ) -> rows.Row:
        observed = [outcome.observed for outcome, _ in found]
        is_memory = test.kind == "memory"
        reads = self.reads(side)
        return rows.Row(
            run=self.run,
            date=_now(),
            case=case,
            engine=_engine(self.engines[side.variant]),
            model=_model(self.models[side.file]),
            machine=self._machine(),
            test=test,
            settings=rows.Settings(side.threads, side.cache_type, side.flash),
            command=shell.quote(found[0][0].command),
            samples=() if is_memory else tuple(round(speed, 4) for _, speed in found),
            cache_bytes_per_token=reads.cache_bytes_per_token,
            plm_edge=__version__,
            load_average=round(self.load_average, 2),
            memory=_memory(observed[0]) if is_memory else None,
            reading=self._reading(side, test, reads),
            temperature_celsius=_most([one.temperature_celsius for one in observed]),
            clock_megahertz=_least([one.clock_megahertz for one in observed]),
        )

    def reads(self, side: Side) -> roofline.Reads:
        """What a side reads for a token."""
        is_edge = side.variant == "edge"
        return roofline.reads(
            self.models[side.file].header,
            latent=is_edge,
            cache_type=side.cache_type,
            live_fraction=self.live_fraction(side),
        )

    def live_fraction(self, side: Side) -> float | None:
        """The share of neurons a side reads; None where it reads all."""
        model = self.models[side.file]
        if side.variant != "edge" or model.header.layout != "edge":
            return None
        return model.live.fraction if model.live else roofline.ASSUMED_LIVE_FRACTION

    def _reading(
        self, side: Side, test: rows.TestRef, reads: roofline.Reads
    ) -> rows.Reading | None:
        """Only for generation: a prompt reads the weights once for many tokens."""
        if test.kind != "generation":
            return None
        fraction = self.live_fraction(side)
        is_measured = fraction is not None and self.models[side.file].live is not None
        return rows.Reading(
            round(reads.generation_bytes(test.depth, test.tokens)), fraction, is_measured
        )

    def _machine(self) -> rows.MachineRef:
        reached = self.bandwidth.gigabytes_per_second
        return rows.MachineRef(
            key=self.machine.key, bandwidth_gigabytes_per_second=reached, **asdict(self.machine)
        )


def _test(test: Test, job: Job) -> rows.TestRef:
    if job.measures_memory:
        return rows.TestRef("memory", test.depth + test.tokens, 0)
    return rows.TestRef(test.kind, test.tokens, test.depth)


def _engine(engine: Engine) -> rows.EngineRef:
    manifest = engine.manifest
    return rows.EngineRef(
        variant="stock" if engine.variant == "stock" else "edge",
        key=manifest.key,
        package=manifest.package,
        version=manifest.version,
        commit=manifest.commit,
    )


def _model(model: Model) -> rows.ModelRef:
    header = model.header
    types: dict[str, int] = {}
    for tensor in header.tensors:
        types[tensor.type] = types.get(tensor.type, 0) + tensor.size_bytes
    return rows.ModelRef(
        path=str(header.path.resolve()),
        sha256=model.sha256,
        file_bytes=header.size_bytes,
        layout=header.layout,
        parameters=sum(tensor.values for tensor in header.tensors),
        types=types,
        is_random=header.is_random,
    )


def _memory(observed: Observed) -> rows.Memory:
    return rows.Memory(
        observed.peak_rss_bytes, observed.peak_anonymous_bytes, observed.peak_file_bytes
    )


def _most(values: list[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _least(values: list[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
