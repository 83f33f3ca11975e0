"""What `plm-edge quantize --budget` does: measure each matrix, choose, write recipe and file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from plm_edge import console, paths
from plm_edge.commands import _imatrix, _record
from plm_edge.commands._eval import default_threads
from plm_edge.engine.cache import Engine
from plm_edge.eval import store, text
from plm_edge.eval.model import Options
from plm_edge.eval.perturb import Perturbed
from plm_edge.eval.text import Text, Windows
from plm_edge.eval.vocabulary import Vocabulary
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.quantize import candidates as finding
from plm_edge.quantize import imatrix, luc, quantizer, search, sensitivity
from plm_edge.quantize import plan as planning
from plm_edge.quantize.candidates import Candidate
from plm_edge.quantize.ggml import Ggml
from plm_edge.quantize.imatrix import Imatrix
from plm_edge.quantize.recipe import Recipe, Rule, layer_of
from plm_edge.quantize.rounding import Weights
from plm_edge.quantize.search import Space
from plm_edge.quantize.sensitivity import Journal, Pair

# Above this matrices are replaced in memory, and not in files that are loaded one by one; and a
# file of 8 bits stands in for the whole one: its products run several times as fast, and its own
# error is small beside that of 4 bits.
_LARGE_BYTES = 1 << 29
_BASE = "base.q8_0.gguf"
# Importance needs more text than divergence, and for each window only one pass.
_IMPORTANCE_WINDOWS = 4
_SCALES: dict[str, luc.Scale] = {"luc": "min-max", "luc-robust": "robust"}
METHODS = ("search", *_SCALES)


@dataclass(frozen=True)
class Extent:
    """How much text is read: windows of so many tokens, from all over the text."""

    context: int
    windows: int


# A probe of PLM-1.8B reads 256 tokens in 2 s of one core, and there are 225 of them.
_SMALL, _LARGE = Extent(256, 8), Extent(128, 2)


@dataclass(frozen=True)
class Request:
    """What to search: `windows` None means as many as the model's size allows."""

    source: GgufHeader
    text: Path
    types: tuple[str, ...]
    importance: Path | None = None
    windows: int | None = None
    threads: int = 0
    all_types: bool | None = None

    @property
    def is_large(self) -> bool:
        """Whether measuring everything on the file itself would take too long."""
        return self.source.size_bytes > _LARGE_BYTES


@dataclass(frozen=True)
class Searcher:
    """A search on one model and text: everything it measures is kept in `folder`."""

    request: Request
    engine: Engine
    read: Text
    windows: Windows
    importance_windows: Windows
    candidates: tuple[Candidate, ...]

    @cached_property
    def folder(self) -> Path:
        """Where measurements are kept: the same inputs find them again."""
        request = self.request
        parts = {
            "model": _record.sha256(request.source.path),
            "tokens": self.windows.sha256,
            "engine": self.engine.manifest.key,
            "importance": _record.sha256(request.importance)
            if request.importance
            else self.importance_windows.sha256,
            "measured": "in memory" if request.is_large else "as files",
        }
        name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
        return paths.cache_dir() / "search" / name

    @property
    def options(self) -> Options:
        """How models are loaded."""
        return Options(self.windows.context, self.request.threads or default_threads())

    @cached_property
    def importance_path(self) -> Path:
        """The importance matrix: the user's, or one measured on the text."""
        if self.request.importance is not None:
            return self.request.importance
        path = self.folder / "importance.gguf"
        if not path.exists():
            source, windows = self.request.source, self.importance_windows
            where = self.engine.lib_dir
            _imatrix.collect_kept(
                _imatrix.Reading(source, where, self.read, windows, self.options), path
            )
        return path

    @cached_property
    def importance(self) -> Imatrix:
        """The importance matrix, checked against the model."""
        found = imatrix.read(self.importance_path)
        imatrix.require_fit(found, self.importance_path, self.request.source)
        return found

    @cached_property
    def weights(self) -> Weights:
        """The model's matrices."""
        return Weights(self.request.source, Ggml(self.engine.lib_dir), self.importance)

    def fixed_bytes(self, importance: Path) -> int:
        """Bytes of the file besides its matrices; it names the importance matrix."""
        added = imatrix.quantizer_keys(self.importance, importance)
        return finding.fixed_bytes(self.request.source, self.candidates, added)

    def space(self, importance: Path) -> Space:
        """Measure what is not measured yet; the file will name `importance`."""
        fixed = self.fixed_bytes(importance)  # reads importance, before another model is loaded
        measured = self._measured()
        shares = self.shares()
        costs = sensitivity.costs(self.candidates, measured, lambda pair: shares[pair])
        return Space(self.candidates, costs, fixed)

    def proxy_rank_correlation(self) -> float | None:
        """How well single probes would have ranked the formats; None if that is not known."""
        measured = Journal(self.folder / "divergence.jsonl").read()
        shares = self.shares()
        return sensitivity.proxy_rank_correlation(
            self.candidates, measured, lambda pair: shares[pair]
        )

    def _measured(self) -> dict[Pair, float]:
        all_types = self.request.all_types
        if all_types is None:
            all_types = not self.request.is_large
        wanted = sensitivity.pairs(self.candidates, all_types=all_types)
        journal = Journal(self.folder / "divergence.jsonl")
        done = journal.read()
        if all(pair in done for pair in wanted):
            return done
        self._make_room()
        with (
            Perturbed(
                self.probed(), self.engine.lib_dir, self.options, self.windows, store.DEFAULT_TOP
            ) as model,
            console.step_progress(f"measuring {len(wanted)} replacements") as progress,
        ):
            found = sensitivity.measure(wanted, self._measure_on(model), journal, progress)
        (self.folder / _BASE).unlink(missing_ok=True)  # nothing will be measured again
        return found

    def _make_room(self) -> None:
        """A folder without the files of searches that were killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob("one.*.gguf"):
            if not Path("/proc", left.name.split(".")[1]).exists():
                left.unlink(missing_ok=True)

    def _measure_on(self, model: Perturbed) -> Callable[[str, str], float]:
        return partial(self._in_memory if self.request.is_large else self._as_file, model)

    def _in_memory(self, model: Perturbed, name: str, kind: str) -> float:
        """What the rounding costs; what the engine does to the inputs is that of the base."""
        stored_as = model.header.tensor(name).type
        raw = self.weights.rounded(self.request.source.tensor(name), kind, stored_as)
        with model.replaced({name: raw}):
            return model.divergence()

    def _as_file(self, model: Perturbed, name: str, kind: str) -> float:
        """What the format costs, inputs in 8 bits included where its products take them so."""
        source, path = self.request.source, self.folder / f"one.{os.getpid()}.gguf"
        if kind == source.tensor(name).type:
            return 0.0
        rules = (Rule((name,), kind, "measured"), Rule(("*",), source.tensor(name).type, "whole"))
        plan = planning.make(source, Recipe("", "q8_0", rules))
        job = quantizer.Request(source, path, self.options.threads, False, self.importance_path)
        try:
            quantizer.run(job, plan.base_name, plan.tensors, self.engine, path, lambda line: None)
            return model.divergence_of(read_header(path))
        finally:
            path.unlink(missing_ok=True)

    def probed(self) -> GgufHeader:
        """The file that is loaded for measuring: the source, or 8 bits of a large one."""
        source = self.request.source
        if not self.request.is_large:
            return source
        path = self.folder / _BASE
        plan = planning.make(source, Recipe("", "q8_0"))
        if not path.exists():
            _forget_bases()
            job = quantizer.Request(source, path, self.request.threads)
            with console.byte_progress("making the 8-bit file to measure on") as progress:
                quantizer.apply(job, plan, self.engine, progress)
        return read_header(path)

    def shares(self) -> dict[Pair, float]:
        """The rounding error of every format of every matrix, as a share of its output."""
        journal = Journal(self.folder / "shares.jsonl")
        wanted = sensitivity.pairs(self.candidates, all_types=True)
        done = journal.read()
        if all(pair in done for pair in wanted):
            return done

        def share(name: str, kind: str) -> float:
            return self.weights.loss(self.request.source.tensor(name), kind).share

        with console.step_progress("rounding samples of every matrix") as progress:
            return sensitivity.measure(wanted, share, journal, progress)

    def layer_errors(self) -> dict[int, float]:
        """What rounding a whole layer to the probe's format puts out wrong: Edge-LLM's measure."""
        errors: dict[int, float] = {}
        for one in self.candidates:
            layer = layer_of(one.tensor.name)
            if layer is not None:
                loss = self.weights.loss(one.tensor, sensitivity.probe_type(one))
                errors[layer] = errors.get(layer, 0.0) + loss.error
        return errors

    def keep_importance(self, path: Path) -> None:
        """Put a copy of the importance matrix beside the recipe, for running that again."""
        if path != self.importance_path:
            with paths.atomic_path(path) as part:
                shutil.copyfile(self.importance_path, part)


def _forget_bases() -> None:
    """Remove what killed searches left: large, and soon made again."""
    folder = paths.cache_dir() / "search"
    for left in (*folder.glob(f"*/{_BASE}"), *folder.glob(f"*/.{_BASE}*.part")):
        left.unlink(missing_ok=True)


def prepare(request: Request, engine: Engine) -> Searcher:
    """A searcher, its inputs checked."""
    if request.importance is not None:
        found = imatrix.read(request.importance)
        imatrix.require_fit(found, request.importance, request.source)
    candidates = finding.find(request.source, request.types)
    read = text.read(request.text)
    extent = _LARGE if request.is_large else _SMALL
    count = request.windows or extent.windows
    with Vocabulary(request.source, engine.lib_dir) as vocabulary:
        windows, more = (
            text.spread(read, vocabulary, extent.context, number)
            for number in (count, count * _IMPORTANCE_WINDOWS)
        )
    return Searcher(request, engine, read, windows, more, candidates)


def choose(searcher: Searcher, space: Space, budget: int, method: str) -> Mapping[str, str]:
    """A format for every matrix by one of `METHODS`."""
    if method == "search":
        return search.choose(space, budget).types
    room = budget - space.fixed_bytes
    return luc.types(searcher.candidates, searcher.layer_errors(), room, _SCALES[method])
