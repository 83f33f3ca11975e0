"""Jobs on a device: this machine stands in for it, with a program that answers as llama-bench."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.bench import far, plan
from plm_edge.bench.far import Far
from plm_edge.bench.plan import Job, Side
from plm_edge.device import profile
from plm_edge.device.emulated import EmulatedTransport
from plm_edge.device.local import LocalTransport
from plm_edge.device.profile import Power, Profile, Thermal
from plm_edge.engine.cache import Engine
from plm_edge.errors import DeviceError, PlmEdgeError
from tests.bench.test_sensors import until_looked_at
from tests.quantize.tiny import write_model

PROMPT, GENERATION = plan.Test("prompt", 8, 0), plan.Test("generation", 4, 0)
ANSWER = [
    {"n_prompt": 8, "n_gen": 0, "n_depth": 0, "samples_ns": [100_000_000]},
    {"n_prompt": 0, "n_gen": 4, "n_depth": 0, "samples_ns": [400_000_000]},
]


def bench_program(folder: Path, *, status: int = 0, waits: str = "") -> Path:
    """Says what llama-bench says while it runs, and does `waits` during each test."""
    path = folder / "llama bench"
    lines = ["#!/bin/sh", f"printf '%s\\n' \"$@\" > '{folder}/words'"]
    for number, kind in ((1, "prompt"), (2, "generation")):
        lines += [f"echo 'llama-bench: benchmark {number}/2: warmup {kind} run' >&2"]
        lines += [f"echo 'llama-bench: benchmark {number}/2: {kind} run 1/1' >&2", waits]
    lines += [f"echo '{json.dumps(ANSWER)}'", f"exit {status}", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Far]:
    monkeypatch.setattr(far, "LOOK_SECONDS", 0.1)
    file = tmp_path / "model file.gguf"
    heat, looks = tmp_path / "heat", tmp_path / "looks"
    heat.write_text("50000\n", encoding="utf-8")
    looked_at = until_looked_at(looks)

    def make(*, status: int = 0, waits: str = looked_at, **changes: object) -> Far:
        heated = f"echo >> '{looks}'; cat '{heat}'"
        device = replace(
            profile.find("host"),
            thermal=Thermal(heated, throttled="echo throttled=0x0", limit_celsius=90.0),
            power=Power("echo 5000; echo 800", "millivolts_milliamperes"),
        )
        program = bench_program(tmp_path, status=status, waits=waits)
        made = Far(
            LocalTransport("bench top"),
            device,
            {"edge": str(program)},
            {file: str(file)},
            (0,),
            sleep=lambda seconds: None,
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    return make


def job(place: Far, tests: tuple[plan.Test, ...] = (PROMPT, GENERATION), threads: int = 1) -> Job:
    return Job(Side("edge", next(iter(place.files)), threads), tests, 0)


def test_speeds_and_power_of_each_test(place: Callable[..., Far]) -> None:
    there = place()
    outcome = there.run(job(there))
    assert outcome.speeds == ((PROMPT, pytest.approx(80.0)), (GENERATION, pytest.approx(10.0)))
    told = outcome.conditions
    assert told is not None
    assert told.watts == {PROMPT: pytest.approx(4.0), GENERATION: pytest.approx(4.0)}
    assert (told.is_throttled, told.has_under_voltage) == (False, False)
    assert outcome.observed.temperature_celsius == 50.0
    assert outcome.observed.peak_rss_bytes > 0


def test_a_test_without_a_look_has_no_power(
    place: Callable[..., Far], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 60 + os.getpid() % 10_000 / 10_000  # nobody else sleeps for that long
    monkeypatch.setattr(far, "LOOK_SECONDS", seconds)
    # Each test lasts until whoever looks has looked and sleeps; the second, for no time at all.
    looker = f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q '[s]leep {seconds:g} '"
    there = place(waits=f"until {looker}; do sleep 0.02; done")
    began = time.monotonic()
    told = there.run(job(there)).conditions
    assert time.monotonic() - began < seconds  # nobody waits for the next look
    assert told is not None
    assert told.watts[GENERATION] is None


def test_the_command_names_far_file_and_fast_cores(place: Callable[..., Far]) -> None:
    there = place(cpus=(2, 3, 4, 7))
    words = there.command(job(there, threads=2))
    assert words[0].endswith("llama bench")
    assert words[words.index("-m") + 1].endswith("model file.gguf")
    assert words[words.index("-C") + 1] == hex(1 << 4 | 1 << 7)
    assert words[words.index("--cpu-strict") + 1] == "1"
    assert words[-1] == "--progress"


def test_pinning_is_believed_only_when_seen(place: Callable[..., Far]) -> None:
    there = place(cpus=(0,))
    from plm_edge.bench.sensors import Look

    one = job(there)
    for masks, expected in ((("0",), True), (("0-3",), False), ((), None)):
        found = there._conditions(one, [Look(allowed_cpus=frozenset(masks))])
        assert found.is_pinned is expected


def test_a_throttled_run_is_marked(place: Callable[..., Far]) -> None:
    there = place()
    thermal = replace(there.device.thermal, throttled="echo throttled=0x7")
    hot = replace(there, device=replace(there.device, thermal=thermal))
    told = hot.run(job(hot)).conditions
    assert told is not None
    assert (told.is_throttled, told.has_under_voltage) == (True, True)


def test_it_waits_until_the_device_is_cool(
    place: Callable[..., Far], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heat = tmp_path / "heat"
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            heat.write_text("51000\n", encoding="utf-8")

    monkeypatch.setattr(far, "COOL_LIMIT_SECONDS", 25.0)
    there = place(start_celsius=50.0, sleep=sleep)
    heat.write_text("60000\n", encoding="utf-8")
    assert there.cool_down()
    assert len(waited) == 3
    heat.write_text("60000\n", encoding="utf-8")
    stuck = place(start_celsius=50.0, sleep=lambda seconds: None)
    heat.write_text("60000\n", encoding="utf-8")
    assert not stuck.cool_down()
    told = stuck.run(job(stuck)).conditions
    assert told is not None and told.began_hot


def test_without_a_sensor_it_does_not_wait(place: Callable[..., Far]) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("waited")

    there = place(start_celsius=None, sleep=sleep)
    assert there.cool_down()
    blind = replace(place(start_celsius=40.0, sleep=sleep), device=profile.find("host"))
    assert blind.cool_down()


def test_far_errors_are_ours(place: Callable[..., Far]) -> None:
    there = place(status=132)
    with pytest.raises(DeviceError, match=r"bench top: .*llama bench used an instruction"):
        there.run(job(there))
    there = place(status=1)
    with pytest.raises(PlmEdgeError) as caught:
        there.run(job(there))
    assert "generation run 1/1" in caught.value.message
    assert "plm-edge-look" not in caught.value.message


def test_an_emulator_is_neither_pinned_nor_felt(place: Callable[..., Far]) -> None:
    pretended = place(transport=EmulatedTransport("mine", "cortex-a76"), waits="")
    assert pretended.is_emulated
    assert "-C" not in pretended.command(job(pretended))
    outcome = pretended.run(job(pretended))
    assert outcome.conditions is not None
    assert set(outcome.conditions.watts.values()) == {None}
    assert outcome.observed.temperature_celsius is None


def test_the_real_engine_answers(engine: Engine, tmp_path: Path) -> None:
    device: Profile = profile.find("host")
    file = write_model(tmp_path / "m.gguf", dtype="q8_0")
    place = Far(
        LocalTransport("here"),
        device,
        {"edge": str(engine.tool("llama-bench"))},
        {file: str(file)},
        (0,),
    )
    outcome = place.run(job(place))
    assert [test for test, _ in outcome.speeds] == [PROMPT, GENERATION]
    assert all(speed > 0 for _, speed in outcome.speeds)
    counted = place.live("edge", file, 1)
    assert counted is not None and 0 <= counted.fraction <= 1
