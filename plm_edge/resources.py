"""Finds the data files that extend the tool: the one place that knows the lookup order.

`--overlay DIR`, then $PLM_EDGE_OVERLAY, then the user's config folder, then what ships with the
package. The working directory is never searched: patches and toolchain files are code.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plm_edge.errors import ConfigError, InputError
from plm_edge.paths import config_dir
from plm_edge.schema import read_toml
from plm_edge.shell import quote

Kind = Literal["converters", "quant", "devices", "patches", "training", "tasks"]

NOUNS: dict[Kind, str] = {
    "converters": "converter",
    "quant": "recipe",
    "devices": "device",
    "patches": "patch",
    "training": "training recipe",
    "tasks": "task",
}
SUFFIXES: dict[Kind, str] = {
    "converters": ".toml",
    "quant": ".toml",
    "devices": ".toml",
    "patches": ".patch",
    "training": ".toml",
    "tasks": ".toml",
}

_overlay: Path | None = None


@dataclass(frozen=True)
class Root:
    """A folder that holds data folders, and what to call it."""

    path: Path
    origin: Literal["overlay", "user", "shipped"]


@dataclass(frozen=True)
class Resource:
    """One data file: its kind, its id (the file's stem), where it is and who put it there."""

    kind: Kind
    name: str
    path: Path
    origin: Literal["overlay", "user", "shipped"]
    overrides: Path | None = None


def set_overlay(folder: Path | None) -> None:
    """Put `folder` in front of the lookup order for this process."""
    global _overlay
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder}: not a folder", hint=quote(["mkdir", "-p", folder]))
    _overlay = folder


def shipped_root() -> Path:
    """The folder with the data folders: inside the wheel, or the checkout's top."""
    inside = Path(__file__).parent / "_data"
    return inside if inside.is_dir() else Path(__file__).parent.parent


def roots() -> list[Root]:
    """Every place data files are looked for, first hit wins."""
    found = [Root(_overlay, "overlay")] if _overlay else []
    if value := os.environ.get("PLM_EDGE_OVERLAY"):
        found.append(Root(Path(value), "overlay"))
    return [*found, Root(config_dir(), "user"), Root(shipped_root(), "shipped")]


def folder(kind: Kind) -> Path:
    """The first existing folder of a kind; for data that is one whole, like the patches."""
    for root in roots():
        if (root.path / kind).is_dir():
            return root.path / kind
    raise InputError(f"no {kind} folder in {shipped_root()}", hint="reinstall plm-edge")


def list_all(kind: Kind) -> list[Resource]:
    """Every file of a kind by name; a hidden one is told in `overrides` of its winner."""
    winners: dict[str, Resource] = {}
    for root in reversed(roots()):
        for path in sorted((root.path / kind).glob(f"*{SUFFIXES[kind]}")):
            if kind == "patches" or path.stem != "upstream":
                hidden = winners.get(path.stem)
                winners[path.stem] = Resource(
                    kind, path.stem, path, root.origin, hidden.path if hidden else None
                )
    return [winners[name] for name in sorted(winners)]


def find(kind: Kind, name: str) -> Resource:
    """The file named `name`, or an `InputError` that lists what there is."""
    known = {resource.name: resource for resource in list_all(kind)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    raise InputError(f"no {NOUNS[kind]} named {name!r}", hint=hint)


def read_table(resource: Resource) -> dict[str, Any]:
    """The TOML table of a resource, with the one it `extends` underneath (once, shallow).

    Tables are merged key by key one level down; everything else is replaced.
    """
    table = read_toml(resource.path)
    parent_name = table.pop("extends", None)
    if parent_name is None:
        return table
    if not isinstance(parent_name, str):
        raise ConfigError(f"{resource.path}: extends = {parent_name!r}, expected a name")
    if parent_name == resource.name:
        # A user's rpi5 that extends rpi5 means the one it hides.
        parent_path = resource.overrides
        if parent_path is None:
            raise ConfigError(f"{resource.path}: extends itself")
    else:
        parent_path = find(resource.kind, parent_name).path
    parent = read_toml(parent_path)
    if "extends" in parent:
        raise ConfigError(
            f"{resource.path}: extends {parent_name!r}, which itself extends "
            f"{parent['extends']!r}; one level only"
        )
    return _merge(parent, table)


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        below = parent.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = {**below, **value}
        merged[key] = value
    return merged
