"""The engine a command runs on: from the cache, or built with progress before the work starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plm_edge import console

if TYPE_CHECKING:
    from plm_edge.engine.cache import Engine


def ready_engine(*, ui: bool = False) -> Engine:
    """The patched engine for this machine, with the web page if `ui`."""
    from plm_edge.engine import build

    extras = build.Extras(ui=ui)
    if engine := build.current("edge", extras):
        return engine
    console.note("the engine is built first: this takes a few minutes, once")
    with console.step_progress("building the engine") as progress:
        return build.ensure("edge", progress, extras=extras, notify=console.note)
