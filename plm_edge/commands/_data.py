"""`list show validate copy`, written once for all kinds of data files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge import console, resources
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.paths import config_dir, read_bytes, write_text_atomic
from plm_edge.resources import Kind, Resource
from plm_edge.shell import quote

Load = Callable[[Resource], Any]
"""Reads a resource into its dataclass; raises `PlmEdgeError` when it is broken."""
Parts = Callable[[Resource], list[Path]]
"""The files that belong to a resource and are copied along under their own names."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
NameArgument = Annotated[str, typer.Argument(help="A name that `list` shows.")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")]


def add_data_commands(
    app: typer.Typer, kind: Kind, load: Load, parts: Parts = lambda resource: []
) -> None:
    """Add the four verbs for `kind` to `app`; `load` is what `validate` checks with."""
    noun = resources.NOUNS[kind]
    suffix = resources.SUFFIXES[kind]

    @app.command("list", help=f"List every {noun}, and where it comes from.")
    def list_(as_json: JsonFlag = False) -> None:
        rows = [_row(resource, load) for resource in resources.list_all(kind)]
        for row in rows:
            if row["overrides"]:
                console.note(f"{row['name']}: {row['path']} overrides {row['overrides']}")
            if row["error"]:
                console.warn(str(row["error"]))
        if as_json:
            console.print_json(rows)
            return
        for row in rows:
            print(f"{row['name']:<28} {row['origin']:<8} {row['summary']}")

    @app.command("show", help=f"Print one {noun}.")
    def show(name: NameArgument, as_json: JsonFlag = False) -> None:
        resource = resources.find(kind, name)
        text = _text(resource.path)
        if as_json:
            console.print_json({**_row(resource, load), "text": text})
            return
        console.note(f"# {resource.path} ({resource.origin})")
        print(text, end="")

    @app.command("validate", help=f"Check a {noun} by name or path; all of them without one.")
    def validate(
        target: Annotated[str | None, typer.Argument(help="Name or path.")] = None,
        as_json: JsonFlag = False,
    ) -> None:
        chosen = [_resolve(kind, target)] if target else resources.list_all(kind)
        for resource in chosen:
            load(resource)
        if as_json:
            console.print_json([{"name": r.name, "path": str(r.path), "ok": True} for r in chosen])
            return
        for resource in chosen:
            print(f"{resource.path}: ok")

    @app.command("copy", help=f"Copy a {noun} into your own folder, to change it there.")
    def copy(
        name: NameArgument,
        new_name: Annotated[str | None, typer.Argument(help="Name of the copy.")] = None,
        dry_run: DryRunFlag = False,
    ) -> None:
        resource = resources.find(kind, name)
        target = config_dir() / kind / (_file_name(name if new_name is None else new_name) + suffix)
        copies = {part: target.parent / part.name for part in parts(resource)}
        # A second copy of the same task shares the data of the first.
        copies = {a: b for a, b in copies.items() if not (b.exists() and _text(a) == _text(b))}
        copies[resource.path] = target
        for path in copies.values():
            if path.exists():
                raise InputError(f"{path}: exists already", hint=quote(["rm", path]))
        for source, path in copies.items():
            if dry_run:
                print(f"would copy {source} to {path}")
            else:
                write_text_atomic(path, _text(source))
                print(path)


def _file_name(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise InputError(f"{name!r} is no name for a file", hint="use letters, digits and '-'")
    return name


def _text(path: Path) -> str:
    return read_bytes(path, limit_bytes=1 << 20).decode("utf-8", "replace")


def _resolve(kind: Kind, target: str) -> Resource:
    path = Path(target)
    if path.suffix or "/" in target:
        if not path.is_file():
            raise InputError(f"{path}: no such file", hint=quote(["ls", path.parent]))
        return Resource(kind, path.stem, path, "user")
    return resources.find(kind, target)


def _row(resource: Resource, load: Load) -> dict[str, Any]:
    error = None
    try:
        load(resource)
    except PlmEdgeError as caught:
        error = caught.message
    return {
        "name": resource.name,
        "origin": resource.origin,
        "path": str(resource.path),
        "overrides": str(resource.overrides) if resource.overrides else None,
        "summary": _summary(resource.path),
        "error": error,
    }


def _summary(path: Path) -> str:
    """The file's first comment line, or a patch's subject."""
    for line in _text(path).splitlines():
        if line.startswith("# "):
            return line[2:]
        if line.startswith("Subject: "):
            return line.removeprefix("Subject: ").removeprefix("[PATCH] ")
    return ""
