"""`plm-edge tasks run --device`: the items go to a server on the device, which is looked at."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from plm_edge.bench import sensors
from plm_edge.bench.sensors import Look
from plm_edge.chat import server
from plm_edge.chat.far_model import FarModel
from plm_edge.chat.loaded import ModelOptions
from plm_edge.commands import _bench_device, _device, _device_server, _tasks
from plm_edge.commands._device import Seen
from plm_edge.commands._device_options import Ask
from plm_edge.commands._record import sha256
from plm_edge.commands._task_far import FarTaskModel
from plm_edge.commands._tasks import Request, Setting
from plm_edge.device.profile import Profile
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError
from plm_edge.eval.record import Record
from plm_edge.eval.tasks import statistics
from plm_edge.eval.tasks.spec import Task
from plm_edge.eval.tasks.store import Settings
from plm_edge.gguf_header import read_header

LOOK_SECONDS = 1.0
# The wire's own shells have the port among their words too, so the program's name must fit.
_FIND = """
for d in /proc/[0-9]*; do
  case $(cat $d/comm 2>/dev/null) in llama-server|qemu-*) ;; *) continue ;; esac
  tr "\\000" " " <$d/cmdline 2>/dev/null | grep -q -- "--port $1 " && echo ${d#/proc/}
done; true
"""


def run_all(request: Request, tasks: Sequence[Task]) -> list[Record]:
    """Run the tasks on the device; each result is kept as soon as it is there."""
    header, name = read_header(request.file), str(request.device)
    ask = Ask(request.ctx, request.cache_type, request.threads or None, is_forced=request.is_forced)
    with _device.seen(name, header, ask) as it:
        engine = _device.ready_engine(name, it.profile)
        request = replace(request, threads=it.threads)
        there = _bench_device.machine_of(it.profile, it.facts)
        settings = Settings(
            model_sha256=sha256(request.file),
            engine=engine.manifest.key,
            machine=there.key,
            ctx=request.ctx,
            threads=request.threads,
            cache_type=request.cache_type,
        )
        made = _device_server.options_of(it, server.alias_of(header), _device_server.any_port())
        with _device_server.running(it, engine, header.path, made) as running:
            running.wait_until_ready()
            options = ModelOptions(
                it.plan.context_tokens,
                it.threads,
                request.cache_type,
                is_emulated=it.transport.is_emulated,
            )
            with FarModel(header, options, running.url, running.explain) as model:
                watch = Watch(it, _pid(it.transport, running.running.argv))
                place = Setting(header, settings, there.cpu, watch.watched)
                return _tasks.rows(request, tasks, FarTaskModel(model), place)


def _pid(transport: Transport, argv: Sequence[str]) -> int | None:
    """The server's process there, found by its port; None if the device shows no processes."""
    port = argv[argv.index("--port") + 1]
    found = transport.run(["sh", "-c", _FIND, "sh", port], check=False).stdout.split()
    return int(found[-1]) if found else None


class Watch:
    """Looks at a server's process, and at the device, as long as a task runs."""

    def __init__(self, it: Seen, process: int | None) -> None:
        self._it = it
        self._process = process

    @contextmanager
    def watched(self) -> Iterator[dict[str, Any]]:
        """Fills in what the device tells about the time in between."""
        device: dict[str, Any] = {"name": self._it.transport.name}
        looks = [self._look()]
        done = threading.Event()
        thread = threading.Thread(target=self._keep_looking, args=(looks, done), daemon=True)
        thread.start()
        started = time.monotonic()
        try:
            yield device
        finally:
            seconds = time.monotonic() - started
            done.set()
            thread.join()
        looks.append(self._look())
        device |= told(looks, seconds)
        if self._it.transport.is_emulated:
            device["is_emulated"] = True

    def _keep_looking(self, looks: list[Look], done: threading.Event) -> None:
        while not done.wait(LOOK_SECONDS):
            looks.append(self._look())

    def _look(self) -> Look:
        """One look; an empty one where the wire is gone, which whoever asks the model will say."""
        # An emulator feels like this machine, which is not what was asked for.
        profile = Profile("emulated") if self._it.transport.is_emulated else self._it.profile
        words = sensors.script(profile, self._it.facts.big_cores, 1, process=self._process)
        try:
            done = self._it.transport.run(words, check=False)
        except DeviceError:
            return Look()
        return next(iter(sensors.read(done.stdout, profile)), Look())


def told(looks: Sequence[Look], seconds: float) -> dict[str, Any]:
    """What the looks at a device say; energy is the mean power times the time."""
    watts = [look.watts for look in looks if look.watts is not None]
    heat = [look.temperature_celsius for look in looks if look.temperature_celsius is not None]
    shares = processor_shares(looks)
    found: dict[str, Any] = {
        "peak_rss_bytes": _peak(looks, lambda look: look.memory.get("VmHWM", 0)),
        "peak_anonymous_bytes": _peak(looks, lambda look: look.memory.get("RssAnon", 0)),
        "temperature_celsius": max(heat, default=None),
        "energy_joules": sum(watts) / len(watts) * seconds if watts else None,
        "energy_source": f"mean of {len(watts)} looks at the power" if watts else None,
        "was_throttled": any(look.is_throttled for look in looks),
    }
    return found | ({"cpu_percent": statistics.percentiles(shares)} if shares else {})


def processor_shares(looks: Sequence[Look]) -> list[float]:
    """How busy the process was between each two looks, in percent of one core."""
    points = [
        (look.uptime_seconds, look.processor_seconds)
        for look in looks
        if look.uptime_seconds is not None and look.processor_seconds is not None
    ]
    pairs = itertools.pairwise(points)
    return [100 * (c1 - c0) / (t1 - t0) for (t0, c0), (t1, c1) in pairs if t1 > t0]


def _peak(looks: Sequence[Look], size: Callable[[Look], int]) -> int | None:
    return max(map(size, looks)) or None
