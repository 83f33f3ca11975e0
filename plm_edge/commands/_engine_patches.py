"""`plm-edge engine patches`: the patch set, which is one whole and is copied as one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.errors import InputError
from plm_edge.shell import quote

app = typer.Typer(no_args_is_help=True, help="The patches that make the edge engine.")


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the patches in the order they are applied."""
    from plm_edge.engine import patches

    patch_set = patches.load()
    if as_json:
        console.print_json([patch.as_dict() for patch in patch_set.patches])
        return
    console.note(f"# {patch_set.folder}, for {patch_set.pin.requirement}")
    for patch in patch_set.patches:
        print(f"{patch.name:<52} {patch.added_lines:>3} lines  {patch.subject}")
    print(f"{'src/':<52} {len(patch_set.sources):>3} files")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A patch of `list`.")], as_json: JsonFlag = False
) -> None:
    """Print one patch."""
    from plm_edge.engine import patches

    found = {patch.name: patch for patch in patches.load().patches}
    if name not in found:
        raise InputError(f"no patch named {name!r}", hint="plm-edge engine patches list")
    if as_json:
        console.print_json(found[name].as_dict())
        return
    print(found[name].path.read_text(encoding="utf-8", errors="replace"), end="")


@app.command()
def validate(
    folder: Annotated[Path | None, typer.Argument(help="A patches folder.")] = None,
    build: Annotated[
        bool, typer.Option("--build", help="Also compile after every patch (10 minutes and more).")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check headers and order, and that every hunk applies exactly where it says."""
    from plm_edge.engine import check, patches
    from plm_edge.engine.plan import host_plan

    patch_set = patches.load(folder)
    check.check_applies(patch_set, console.note)
    if build:
        with console.step_progress("compiling after every patch") as progress:
            check.check_builds(host_plan("edge", patch_set), progress, console.note)
    if as_json:
        rows = [{"name": patch.name, "ok": True} for patch in patch_set.patches]
        console.print_json(rows)
        return
    for patch in patch_set.patches:
        print(f"{patch.path}: ok")


@app.command()
def copy(
    folder: Annotated[Path | None, typer.Argument(help="Where to; your own by default.")] = None,
    dry_run: DryRunFlag = False,
) -> None:
    """Copy the whole patch set into your own folder; from then on that one is used."""
    import shutil

    from plm_edge.engine import patches
    from plm_edge.paths import config_dir, write_error

    patch_set = patches.load()
    target = folder or config_dir() / "patches"
    if target.exists():
        raise InputError(f"{target}: exists already", hint=quote(["rm", "-r", target]))
    if dry_run:
        print(f"would copy {patch_set.folder} to {target}")
        return
    try:
        shutil.copytree(patch_set.folder, target)
    except OSError as error:
        raise write_error(target, error) from error
    print(target)


@app.command()
def refresh(
    pin: Annotated[Path | None, typer.Option(help="A new upstream.toml to move to.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; in place by default.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="The repository in which you resolved a conflict.")
    ] = None,
    dry_run: DryRunFlag = False,
) -> None:
    """Merge the patches onto a pin (default: the same) and write them again with git."""
    from plm_edge.engine import patches
    from plm_edge.engine import refresh as refreshing
    from plm_edge.engine.upstream import PIN_NAME

    patch_set = patches.load()
    target = output or patch_set.folder
    pin_file = pin or patch_set.folder / PIN_NAME
    if dry_run:
        print(f"would merge {len(patch_set.patches)} patches onto {pin_file}, into {target}")
        return
    if export is not None:
        changed = refreshing.export(patch_set, export, target)
    else:
        scratch = Path(tempfile.mkdtemp(prefix="plm-edge-patches-"))
        changed = refreshing.refresh(patch_set, pin_file, scratch / "work", target, console.note)
        refreshing.clean(scratch)
    for name in changed:
        print(f"{target / name}: changed")
    console.note(f"{len(changed)} of {len(patch_set.patches)} patches changed")
