"""Runs jobs on a device: pinned to its big cores, cooled down before, watched meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from plm_edge.bench import live, sensors
from plm_edge.bench.live import Live
from plm_edge.bench.plan import Job, Test
from plm_edge.bench.runner import Conditions, Outcome, speeds
from plm_edge.bench.sampler import Observed
from plm_edge.bench.sensors import Look
from plm_edge.device.process import Finished
from plm_edge.device.profile import Power, Profile, Thermal
from plm_edge.device.transport import Transport

LOOK_SECONDS = 1.0
MEMORY_LOOK_SECONDS = 0.2
# As warm as before the first run, give or take the sensor's own steps.
COOL_WITHIN_CELSIUS = 2.0
COOL_POLL_SECONDS = 5.0
COOL_LIMIT_SECONDS = 300.0
_LIVE_WORDS = ("-o", "json", "-r", "1", "-p", "0", "-n", str(live.TOKENS))


@dataclass(frozen=True)
class Far:
    """A device with engines and files in place. `cpus` are its big cores, slowest first."""

    transport: Transport
    device: Profile
    programs: Mapping[str, str]
    files: Mapping[Path, str]
    cpus: tuple[int, ...]
    start_celsius: float | None = None
    bandwidth_source: str | None = None
    sleep: Callable[[float], None] = field(default=time.sleep)

    @property
    def name(self) -> str:
        """What the device is called."""
        return self.transport.name

    @property
    def is_emulated(self) -> bool:
        """Whether its speed means nothing."""
        return self.transport.is_emulated

    def run(self, job: Job) -> Outcome:
        """Run one job to its end, the device cooled down before; errors are the transport's."""
        is_cool = self.cool_down()
        argv = self.command(job)
        seconds = MEMORY_LOOK_SECONDS if job.measures_memory else LOOK_SECONDS
        done = self._watched(argv, self._chosen(job.side.threads), seconds)
        looks = sensors.read(done.stderr, self._sensed)
        return Outcome(
            job=job,
            command=tuple(argv),
            speeds=speeds(done.stdout, job),
            observed=_observed(looks),
            conditions=replace(self._conditions(job, looks), began_hot=not is_cool),
        )

    def command(self, job: Job) -> list[str]:
        """What runs there, as words."""
        words = job.arguments()
        words[words.index("-m") + 1] = self.files[job.side.file]
        mask = sum(1 << cpu for cpu in self._chosen(job.side.threads))
        # An emulator's threads run on this machine's cores, whatever they are.
        pin = [] if self.transport.is_emulated else ["-C", hex(mask), "--cpu-strict", "1"]
        return [self.programs[job.side.variant], *words, *pin, "--progress"]

    def _chosen(self, threads: int) -> tuple[int, ...]:
        """The fastest cores come last in the kernel's order on every big.LITTLE seen so far."""
        return self.cpus[-threads:]

    @property
    def _sensed(self) -> Profile:
        """The profile, without sensors where there is no such device behind the wire."""
        if not self.transport.is_emulated:
            return self.device
        bare: dict[str, Thermal | Power] = {"thermal": Thermal(), "power": Power()}
        return Profile(**{**vars(self.device), **bare})

    def _watched(self, argv: Sequence[str], cpus: Sequence[int], seconds: float) -> Finished:
        # The transport puts its emulator before a program, not before a shell that starts one.
        words = self.transport.program(argv)
        done = self.transport.run(sensors.script(self._sensed, cpus, seconds, words), check=False)
        if done.code != 0:
            own = Finished(tuple(argv), done.code, done.stdout, sensors.said(done.stderr))
            raise self.transport.error_of(own)
        return done

    def look(self) -> Look:
        """How the device feels at rest."""
        done = self.transport.run(sensors.script(self._sensed, self.cpus, 1))
        looks = sensors.read(done.stdout, self._sensed)
        return looks[0] if looks else Look()

    def cool_down(self) -> bool:
        """Wait until the device is about as cool as at the start; whether it became so."""
        if self.start_celsius is None:
            return True
        for _ in range(int(COOL_LIMIT_SECONDS / COOL_POLL_SECONDS)):
            now = self.look().temperature_celsius
            if now is None or now <= self.start_celsius + COOL_WITHIN_CELSIUS:
                return True
            self.sleep(COOL_POLL_SECONDS)
        return False

    def live(self, variant: str, file: Path, threads: int) -> Live | None:
        """Which neurons fire, as the engine counts them there."""
        words = ["-m", self.files[file], *_LIVE_WORDS, "-t", str(threads)]
        done = self.transport.run([self.programs[variant], *words], env=live.ENVIRONMENT)
        return live.parse(done.stderr)

    def _conditions(self, job: Job, looks: Sequence[Look]) -> Conditions:
        masks = frozenset().union(*(look.allowed_cpus for look in looks))
        chosen = {str(cpu) for cpu in self._chosen(job.side.threads)}
        return Conditions(
            is_throttled=any(look.is_throttled for look in looks),
            has_under_voltage=any(look.has_under_voltage for look in looks),
            # Strict masks give every worker one core of its own.
            is_pinned=bool(chosen) and chosen <= masks if masks else None,
            governor=next((look.governor for look in looks if look.governor), None),
            watts={test: _watts(looks, number, test) for number, test in enumerate(job.tests, 1)},
        )


def _watts(looks: Sequence[Look], number: int, test: Test) -> float | None:
    """Mean power while this very test ran, its way down to the depth and warm-up left out."""
    phase = f"{number} {test.kind} run"
    found = [look.watts for look in looks if look.phase.startswith(phase)]
    values = [value for value in found if value is not None]
    return sum(values) / len(values) if values else None


def _observed(looks: Sequence[Look]) -> Observed:
    def peak(name: str) -> int:
        return max((look.memory.get(name, 0) for look in looks), default=0)

    temperatures = [look.temperature_celsius for look in looks]
    # The first look falls before the load, when a sparing governor still idles.
    clocks = [look.clock_megahertz for look in looks if " run" in look.phase]
    return Observed(
        peak_rss_bytes=max(peak("VmHWM"), peak("RssAnon") + peak("RssFile")),
        peak_anonymous_bytes=peak("RssAnon"),
        peak_file_bytes=peak("RssFile"),
        temperature_celsius=max((t for t in temperatures if t is not None), default=None),
        clock_megahertz=min((clock for clock in clocks if clock is not None), default=None),
    )
