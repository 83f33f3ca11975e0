"""What `plm-edge quantize --budget` does: measure each matrix, choose, write recipe and file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
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
from plm_edge.quantize.recipe import Recipe, layer_of
from plm_edge.quantize.rounding import Weights
from plm_edge.quantize.search import Space
from plm_edge.quantize.sensitivity import Journal, Pair

CONTEXT = 256
# Above this a file of 8 bits stands in for the whole one while matrices are probed: its products
# run several times as fast, and its own error is small beside that of 4 bits.
_LARGE_BYTES = 1 << 29
_WINDOWS, _WINDOWS_LARGE = 8, 2
_SCALES: dict[str, luc.Scale] = {"luc": "min-max", "luc-robust": "robust"}
METHODS = ("search", *_SCALES)


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
    candidates: tuple[Candidate, ...]

    @cached_property
    def folder(self) -> Path:
        """Where measurements are kept: the same inputs find them again."""
        request = self.request
        parts = {
            "model": _record.sha256(request.source.path),
            "tokens": self.windows.sha256,
            "engine": self.engine.manifest.key,
            "importance": _record.sha256(request.importance) if request.importance else None,
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
            source = self.request.source
            seen = _imatrix.run(source, self.engine.lib_dir, self.windows, self.options)
            imatrix.write(path, _imatrix.gathered(source, seen, self.read, self.windows))
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
        measured = self._measured()
        shares = self.shares()
        costs = sensitivity.costs(self.candidates, measured, lambda pair: shares[pair])
        return Space(self.candidates, costs, self.fixed_bytes(importance))

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
        with (
            Perturbed(
                self.probed(), self.engine.lib_dir, self.options, self.windows, store.DEFAULT_TOP
            ) as model,
            console.step_progress(f"measuring {len(wanted)} replacements") as progress,
        ):
            return sensitivity.measure(wanted, self._measure_on(model), journal, progress)

    def _measure_on(self, model: Perturbed) -> Callable[[str, str], float]:
        def divergence(name: str, kind: str) -> float:
            stored_as = model.header.tensor(name).type
            raw = self.weights.rounded(self.request.source.tensor(name), kind, stored_as)
            with model.replaced({name: raw}):
                return model.divergence()

        return divergence

    def probed(self) -> GgufHeader:
        """The file that is loaded for measuring: the source, or 8 bits of a large one."""
        source = self.request.source
        if not self.request.is_large:
            return source
        path = self.folder / "base.q8_0.gguf"
        plan = planning.make(source, Recipe("", "q8_0"))
        if not path.exists():
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


def prepare(request: Request, engine: Engine) -> Searcher:
    """A searcher, its inputs checked."""
    if request.importance is not None:
        found = imatrix.read(request.importance)
        imatrix.require_fit(found, request.importance, request.source)
    candidates = finding.find(request.source, request.types)
    read = text.read(request.text)
    limit = request.windows or (_WINDOWS_LARGE if request.is_large else _WINDOWS)
    with Vocabulary(request.source, engine.lib_dir) as vocabulary:
        windows = text.windows(read, vocabulary, CONTEXT, limit)
    return Searcher(request, engine, read, windows, candidates)


def choose(searcher: Searcher, space: Space, budget: int, method: str) -> Mapping[str, str]:
    """A format for every matrix by one of `METHODS`."""
    if method == "search":
        return search.choose(space, budget).types
    room = budget - space.fixed_bytes
    return luc.types(searcher.candidates, searcher.layer_errors(), room, _SCALES[method])
