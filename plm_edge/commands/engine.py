"""`plm-edge engine`: build, look at, test and clean up the inference engine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands import _engine_patches
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.errors import InputError, ToolError, UsageError

if TYPE_CHECKING:
    from plm_edge.device.profile import Profile, ToolchainName
    from plm_edge.engine.build import Extras
    from plm_edge.engine.cache import Engine
    from plm_edge.engine.plan import Variant

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Build, list, test and clean up the engine."
)
app.add_typer(_engine_patches.app, name="patches")

StockFlag = Annotated[bool, typer.Option("--stock", help="Upstream's engine, without patches.")]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="The device it is for (`device list`).")
]
KeyArgument = Annotated[str | None, typer.Argument(help="An engine of `list`.")]
ToolchainOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="zig, gcc or ndk, in place of the profile's.")
]


@app.command()
def build(
    device: DeviceOption = "host",
    stock: StockFlag = False,
    toolchain: ToolchainOption = None,
    ui: Annotated[bool, typer.Option("--ui", help="With the web page (needs npm).")] = False,
    tests: Annotated[bool, typer.Option("--tests", help="With the engine's own tests.")] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Build the engine for this machine or a device; nothing is done if it is current."""
    from plm_edge.engine import build as builder
    from plm_edge.engine import report

    profile, chosen = _profile(device), _toolchain(toolchain)
    variant, extras = _variant(stock), _extras(stock=stock, ui=ui, tests=tests)
    if dry_run:
        _print(report.plan_rows(variant, extras, profile, chosen), as_json)
        return
    engine = builder.current_for(profile, variant, extras, chosen)
    if engine is None:
        with console.step_progress(f"building the {variant} engine for {device}") as progress:
            engine = builder.ensure_for(
                profile,
                variant,
                progress,
                toolchain=chosen,
                extras=extras,
                notify=console.note,
            )
    console.note(engine.cache_note)
    _print(report.engine_rows(engine), as_json)


def _extras(*, stock: bool, ui: bool, tests: bool) -> Extras:
    from plm_edge.engine import build as builder
    from plm_edge.engine import ui as web_page

    if ui and stock:
        raise UsageError("the stock engine has no server, so no web page either")
    extras = builder.Extras(ui=ui and web_page.is_possible(), tests=tests)
    if ui and not extras.ui:
        console.warn("npm is not installed: llama-server gets its API, but no web page")
        console.note("hint: sudo apt-get install npm nodejs")
    return extras


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the engines in the cache; the current ones are marked and name their devices."""
    from plm_edge.engine import cache, report

    engines, broken = cache.list_all()
    for message in broken:
        console.warn(message)
    rows = report.list_rows(engines)
    if as_json:
        console.print_json(rows)
        return
    for row in rows:
        mark = "*" if row["is_current"] else " "
        megabytes = row["size_bytes"] / 1e6
        devices = " ".join(row["devices"])
        print(f"{mark} {row['key']:<40} {row['built_at'][:16]} {megabytes:6.1f} MB  {devices}")


@app.command()
def show(
    key: KeyArgument = None,
    device: DeviceOption = "host",
    stock: StockFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Print an engine's folders and manifest, its binaries checked; the current one by default."""
    from plm_edge.engine import report

    engine = _found(key, device, _variant(stock))
    engine.check()
    _print(report.engine_rows(engine), as_json)


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="The archive to write (.tar.gz).")],
    key: Annotated[str | None, typer.Option(help="An engine of `list`.")] = None,
    device: DeviceOption = "host",
    stock: StockFlag = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a built engine into one file, for machines that have no compiler."""
    from plm_edge.engine import archive

    engine = _found(key, device, _variant(stock))
    if dry_run:
        print(f"would write {engine.manifest.key}, {engine.size_bytes()} bytes, to {target}")
        return
    done = archive.export(engine, target)
    _print({"key": engine.manifest.key, **vars(done)}, as_json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `export` wrote.")],
    sha256: Annotated[str | None, typer.Option(help="What `export` printed; checked.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put an exported engine into the cache, every file of it compared with its hash."""
    from plm_edge.engine import archive, report

    _print(report.engine_rows(archive.import_(file, sha256)), as_json)


@app.command()
def prune(
    everything: Annotated[bool, typer.Option("--all", help="Current engines as well.")] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete outdated engines and what killed builds left."""
    from plm_edge.engine import prune as pruning

    found = pruning.find(everything=everything)
    gone = found if dry_run else pruning.remove(found)
    if as_json:
        console.print_json([vars(leftover) for leftover in gone])
        return
    for leftover in gone:
        print(f"{leftover.size_bytes / 1e6:8.1f} MB  {leftover.path}  ({leftover.reason})")
    total = sum(leftover.size_bytes for leftover in gone) / 1e6
    console.note(f"{total:.1f} MB {'would be ' if dry_run else ''}deleted")


@app.command()
def source(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    stock: StockFlag = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Write the engine's source, patched, into a folder to read it or to work on it."""
    from plm_edge.engine import tree
    from plm_edge.engine.patches import load
    from plm_edge.engine.plan import host_plan

    if folder.exists():
        raise InputError(f"{folder}: exists already", hint="name a new folder")
    plan = host_plan(_variant(stock), load())
    if dry_run:
        print(f"would write {plan.patch_set.pin.requirement} {plan.patch_set.pin.tree} to {folder}")
        return
    tree.write_tree(plan, folder, console.note)
    print(folder)


@app.command()
def test(stock: StockFlag = False, as_json: JsonFlag = False) -> None:
    """Run the engine's own tests, upstream's of the architecture and ours of the kernels."""
    from plm_edge.engine import build as builder
    from plm_edge.engine import selftest

    with console.step_progress("building the engine's tests") as progress:
        extras = builder.Extras(tests=True)
        engine = builder.ensure(_variant(stock), progress, extras=extras, notify=console.note)
    results = selftest.run_all(engine, _note_result)
    if as_json:
        console.print_json([vars(result) for result in results])
    if failed := [result for result in results if not result.is_passed]:
        tail = "\n".join(failed[0].output.rstrip().splitlines()[-20:])
        names = ", ".join(result.name for result in failed)
        raise ToolError(f"{len(failed)} of {len(results)} failed: {names}\n{tail}")


def _note_result(result: object) -> None:
    from plm_edge.engine.selftest import TestRun

    assert isinstance(result, TestRun)
    word = "passed" if result.is_passed else "FAILED"
    console.note(f"{result.name:<28} {word} in {result.seconds:.1f} s")


def _found(key: str | None, device: str, variant: Variant) -> Engine:
    """The engine of that key, else the current one of the device."""
    from plm_edge.engine import build as builder
    from plm_edge.engine import cache

    if key is not None:
        is_known = key in {path.name for path in cache.engines_dir().glob("[!.]*")}
        engine = cache.load(cache.engines_dir() / key) if is_known else None
        what, hint = f"engine {key}", "plm-edge engine list"
    else:
        engine = builder.current_for(_profile(device), variant)
        what = f"current {variant} engine for {device}"
        flag = " --stock" if variant == "stock" else ""
        hint = f"plm-edge engine build --device {shlex.quote(device)}{flag}"
    if engine is None:
        raise InputError(f"no {what} in the cache", hint=hint)
    return engine


def _profile(device: str) -> Profile:
    from plm_edge.device import profile

    return profile.find(device)


def _toolchain(name: str | None) -> ToolchainName | None:
    from plm_edge.engine.cross import TOOLCHAINS

    if name is None or name in TOOLCHAINS:
        return name
    raise UsageError(f"--toolchain {name}: expected one of {', '.join(TOOLCHAINS)}")


def _variant(stock: bool) -> Variant:
    return "stock" if stock else "edge"


def _print(rows: dict[str, Any], as_json: bool) -> None:
    if as_json:
        console.print_json(rows)
        return
    for name, value in rows.items():
        if isinstance(value, (list, tuple)):
            value = " ".join(map(str, value))
        print(f"{name:<14} {len(value) if isinstance(value, dict) else value}")
