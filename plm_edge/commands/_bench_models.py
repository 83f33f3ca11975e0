"""The models of `bench --suite`: random weights of PLM-1.8B's shape, made once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plm_edge import console, paths
from plm_edge.engine.cache import Engine
from plm_edge.shape import PlmShape

Layout = Literal["edge", "stock"]
SEED = 0


@dataclass(frozen=True)
class ModelStore:
    """A folder with the suite's files; whatever is missing or out of date is made again."""

    folder: Path
    shape: PlmShape

    def edge_path(self, recipe_name: str) -> Path:
        """Where the file of a recipe is."""
        return self.folder / f"plm-random.{recipe_name}.gguf"

    def stock_path(self, mix: str) -> Path:
        """Where stock's file of a mix is."""
        return self.folder / f"plm-random.{mix}.stock.gguf"

    def make_edge(self, recipe_name: str, engine: Engine) -> None:
        """Our file: the edge layout, quantized by one of our recipes."""
        from plm_edge.gguf_header import read_header
        from plm_edge.quantize import plan, quantizer, recipe

        target, chosen = self.edge_path(recipe_name), recipe.find(recipe_name)
        if target.is_file() and plan.is_current(read_header(target), chosen):
            return
        source = read_header(self._f16("edge"))
        request = quantizer.Request(source, target)
        with console.byte_progress(f"quantizing to {target.name}") as progress:
            quantizer.apply(request, plan.make(source, chosen), engine, progress)

    def make_stock(self, mix: str, engine: Engine) -> None:
        """Stock's file: the stock layout, mixed by llama-quantize's own rules."""
        from plm_edge.gguf_header import read_header
        from plm_edge.quantize import quantizer

        target = self.stock_path(mix)
        if not target.is_file():
            source = read_header(self._f16("stock"))
            console.note(f"quantizing to {target.name} ...")
            quantizer.apply_mix(quantizer.Request(source, target), mix, engine)

    def drop_sources(self) -> None:
        """Remove what only quantizing needed: 11 GB for PLM-1.8B."""
        for layout in ("edge", "stock"):
            self._f16_path(layout).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "checkpoint", ignore_errors=True)

    def _f16_path(self, layout: str) -> Path:
        return self.folder / f"plm-random.f16.{layout}.gguf"

    def _f16(self, layout: Layout) -> Path:
        from plm_edge.convert.pipeline import convert

        target = self._f16_path(layout)
        if not target.is_file():
            checkpoint = self._checkpoint()
            with console.byte_progress(f"converting to {target.name}") as progress:
                convert(checkpoint, target, layout=layout, type_name="f16", progress=progress)
        return target

    def _checkpoint(self) -> Path:
        from plm_edge.convert.synth import write_checkpoint

        target = self.folder / "checkpoint"
        if not target.is_dir():
            paths.require_space(target, 8 * self.shape.parameters)
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            with console.byte_progress("writing random weights of PLM's shape") as progress:
                write_checkpoint(part, self.shape, seed=SEED, progress=progress)
            part.rename(target)
        return target


def prepare(
    store: ModelStore, recipes: Iterable[str], mixes: Iterable[str], engine: Engine
) -> None:
    """Make every file that is missing, then remove what they were made from."""
    for name in recipes:
        store.make_edge(name, engine)
    for mix in mixes:
        store.make_stock(mix, engine)
    store.drop_sources()  # after a failure they stay, and the next run goes on from them
