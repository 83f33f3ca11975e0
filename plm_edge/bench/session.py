"""A whole benchmark: rounds run one after the other, their outcomes gathered into rows."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

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


class Place(Protocol):
    """Somewhere else that jobs run."""

    @property
    def name(self) -> str:
        """What the device is called."""

    @property
    def is_emulated(self) -> bool:
        """Whether its speed means nothing."""

    @property
    def bandwidth_source(self) -> str | None:
        """Who says how fast its memory is."""

    def run(self, job: Job) -> Outcome:
        """Run one job there."""


@dataclass(frozen=True)
class Bench:
    """What all rounds of one run share."""

    machine: Machine
    bandwidth: Bandwidth | None
    engines: Mapping[str, Engine]
    models: Mapping[Path, Model]
    load_average: float = 0.0
    # On a device, what runs a job there; here, the engine is started right away.
    far: Place | None = None
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
            outcomes.append(self.run_job(job))
        progress(round(sum(expected)), round(sum(expected)))
        return self.gather(outcomes, case)

    def run_job(self, job: Job) -> Outcome:
        """Run one job where this benchmark runs."""
        if self.far is not None:
            return self.far.run(job)
        return runner.run(job, self.engines[job.side.variant])

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
        has_speed = not is_memory and not (self.far and self.far.is_emulated)
        speeds = [round(speed, 4) for _, speed in found] if has_speed else []
        reads = self.reads(side)
        return rows.Row(
            run=self.run,
            date=_now(),
            case=case,
            engine=_engine(self.engines[side.variant]),
            model=_model(self.models[side.file]),
            machine=self._machine([outcome for outcome, _ in found]),
            test=test,
            settings=rows.Settings(side.threads, side.cache_type, side.flash),
            command=shell.quote(found[0][0].command),
            samples=tuple(speeds),
            cache_bytes_per_token=reads.cache_bytes_per_token,
            plm_edge=__version__,
            load_average=round(self.load_average, 2),
            memory=_memory(observed[0]) if is_memory and observed[0].peak_rss_bytes else None,
            reading=self._reading(side, test, reads),
            temperature_celsius=_most([one.temperature_celsius for one in observed]),
            clock_megahertz=_least([one.clock_megahertz for one in observed]),
            device=self._device(test, [outcome for outcome, _ in found], speeds),
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
        measured = self.models[side.file].live if fraction is not None else None
        return rows.Reading(
            round(reads.generation_bytes(test.depth, test.tokens)),
            fraction,
            live_fraction_is_measured=measured is not None,
            live_by_layer=tuple(round(s, 6) for s in measured.layers.values()) if measured else (),
        )

    def _machine(self, outcomes: Sequence[Outcome]) -> rows.MachineRef:
        governors = [one.conditions.governor for one in outcomes if one.conditions]
        known = {**asdict(self.machine)}
        known["governor"] = next(filter(None, governors), self.machine.governor)
        return rows.MachineRef(
            key=self.machine.key,
            bandwidth_gigabytes_per_second=(
                self.bandwidth.gigabytes_per_second if self.bandwidth else None
            ),
            bandwidth_source=self.far.bandwidth_source if self.far else None,
            **known,
        )

    def _device(
        self, test: rows.TestRef, outcomes: Sequence[Outcome], speeds: Sequence[float]
    ) -> rows.DeviceRef | None:
        if self.far is None:
            return None
        told = [outcome.conditions for outcome in outcomes if outcome.conditions]
        readings = [_watts(test, outcome) for outcome in outcomes]
        watts = [reading for reading in readings if reading is not None]
        mean = statistics.median(watts) if watts else None
        speed = statistics.median(speeds) if speeds else None
        pinned = [one.is_pinned for one in told if one.is_pinned is not None]
        return rows.DeviceRef(
            name=self.far.name,
            is_emulated=self.far.is_emulated,
            throttled_runs=sum(one.is_throttled for one in told),
            hot_runs=sum(one.began_hot for one in told),
            has_under_voltage=any(one.has_under_voltage for one in told),
            is_pinned=all(pinned) if pinned else None,
            watts=round(mean, 3) if mean is not None else None,
            joules_per_token=round(mean / speed, 6) if mean is not None and speed else None,
        )


def _watts(test: rows.TestRef, outcome: Outcome) -> float | None:
    known = outcome.conditions.watts if outcome.conditions else {}
    return next(
        (w for own, w in known.items() if (own.kind, own.tokens) == (test.kind, test.tokens)), None
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
