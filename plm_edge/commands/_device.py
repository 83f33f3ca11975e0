"""What every command with `--device` does first: look, judge, plan memory, and put things there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plm_edge import console
from plm_edge.commands._context import AUTO
from plm_edge.commands._device_options import Ask
from plm_edge.device import connect, deploy, fit, memory, probe
from plm_edge.device import profile as profiles
from plm_edge.errors import PlmEdgeError, SpaceError

if TYPE_CHECKING:
    from pathlib import Path

    from plm_edge.device.deploy import Item
    from plm_edge.device.memory import Load, MemoryPlan
    from plm_edge.device.probe import Facts
    from plm_edge.device.profile import Profile
    from plm_edge.device.transport import Transport
    from plm_edge.engine.cache import Engine
    from plm_edge.gguf_header import GgufHeader

SERVER = "llama-server"


@dataclass(frozen=True)
class Seen:
    """A device that answered and fits: its wire, what it is, and the plan for its memory."""

    transport: Transport
    profile: Profile
    facts: Facts
    plan: MemoryPlan
    threads: int
    ask: Ask


@contextmanager
def seen(name: str, header: GgufHeader, ask: Ask) -> Iterator[Seen]:
    """Within, the wire to the device; raises before anything is sent if it would not work."""
    profile = profiles.find(name)
    with connect.connect(name, profile) as transport:
        facts = probe.probe(transport)
        _judged(name, profile, facts, is_forced=ask.is_forced)
        plan = _planned(name, header, facts, ask)
        threads = ask.threads or _threads(profile, facts)
        yield Seen(transport, profile, facts, plan, threads, ask)


def _judged(name: str, profile: Profile, facts: Facts, *, is_forced: bool) -> None:
    try:
        fit.require_fit(name, profile, facts)
    except PlmEdgeError as error:
        if not is_forced:
            raise
        console.warn(error.message)


def _planned(name: str, header: GgufHeader, facts: Facts, ask: Ask) -> MemoryPlan:
    from plm_edge.chat import preflight

    shape = preflight.shape_of(header)
    load = memory.Load(shape, header.size_bytes, ask.cache_type, ask.conversations)
    wanted = None if ask.ctx in (0, AUTO) else ask.ctx
    try:
        return memory.plan(name, load, facts, wanted)
    except SpaceError as error:
        limit = memory.largest_weights(load, facts)
        if header.size_bytes <= limit or not limit:
            raise
        raise SpaceError(error.message, hint=_smaller_recipe(header, load, limit)) from error


def _smaller_recipe(header: GgufHeader, load: Load, limit: int) -> str:
    """The best recipe whose file would fit, and the command for it."""
    from plm_edge import resources
    from plm_edge.quantize import plan as quantize_plan
    from plm_edge.quantize import recipe

    sizes = {
        resource.name: quantize_plan.make(header, recipe.load(resource)).file_bytes
        for resource in resources.list_all("quant")
    }
    fitting = {name: size for name, size in sizes.items() if size <= limit}
    if not fitting:
        return f"no recipe makes this model as small as {limit / 1e6:.0f} MB"
    best = max(fitting, key=lambda name: fitting[name])
    size = f"{fitting[best] / 1e6:.1f} MB"
    return (
        f"recipe {best} makes it {size}: plm-edge quantize F16.gguf -o SMALL.gguf --recipe {best}"
    )


def _threads(profile: Profile, facts: Facts) -> int:
    if facts.is_emulated:
        return 1  # waiting threads spin, and an emulator pays for each turn
    return min(profile.cpu.big_cores or len(facts.big_cores), len(facts.cores))


def ready_engine(name: str, profile: Profile, *, ui: bool = False) -> Engine:
    """The engine for the device, built if the cache has none."""
    from plm_edge.engine import build

    extras = build.Extras(ui=ui)
    if engine := build.current_for(profile, "edge", extras):
        return engine
    console.note(f"the engine for {name} is built first: this takes some minutes, once")
    with console.step_progress(f"building the engine for {name}") as progress:
        return build.ensure_for(profile, "edge", progress, extras=extras, notify=console.note)


def items(transport: Transport, engine: Engine, file: Path, tools: Sequence[str]) -> list[Item]:
    """The files a device needs to run `tools` on `file`."""
    programs = [engine.tool(tool) for tool in tools]
    found = deploy.engine_items(transport, engine.manifest.key, programs, engine.lib_dir)
    return [*found, deploy.model_item(transport, file)]


def sent(transport: Transport, wanted: Sequence[Item]) -> int:
    """Send what is missing, with a bar for each file; the bytes sent."""
    absent = deploy.missing(transport, wanted)
    deploy.require_space(transport, absent)
    return deploy.place(transport, absent, _watch)


def _watch(item: Item) -> AbstractContextManager[console.Progress]:
    return console.byte_progress(f"sending {item.local.name}")


def plan_rows(it: Seen, wanted: Sequence[Item] | None) -> dict[str, Any]:
    """What would be sent and how memory would be spent; `wanted` is None without an engine."""
    absent = {one.item for one in deploy.missing(it.transport, wanted or ())}
    return {
        "device": it.transport.name,
        "model": it.facts.model or it.facts.system,
        "processor": it.facts.core_names,
        "threads": it.threads,
        "context_tokens": it.plan.context_tokens,
        "memory": it.plan.lines(),
        "engine": "there or sent" if wanted is not None else "would be built",
        "files": [
            {
                "from": str(i.local),
                "to": deploy.place_of(it.transport, i),
                "bytes": i.size_bytes if i in absent else 0,
            }
            for i in wanted or ()
        ],
    }


def show_plan(it: Seen, file: Path, tools: Sequence[str], *, as_json: bool) -> None:
    """Print the plan; nothing is built and nothing is sent."""
    from plm_edge.engine import build

    engine = build.current_for(it.profile, "edge")
    wanted = items(it.transport, engine, file, tools) if engine else None
    rows = plan_rows(it, wanted)
    if as_json:
        console.print_json(rows)
        return
    files = rows.pop("files")
    memory_lines = rows.pop("memory")
    for name, value in rows.items():
        print(f"{name:<16} {value}")
    for line in memory_lines:
        print(f"{'memory':<16} {line}")
    for row in files:
        what = f"send {row['bytes'] / 1e6:.1f} MB" if row["bytes"] else "there already"
        print(f"{'file':<16} {row['to']}: {what}")
