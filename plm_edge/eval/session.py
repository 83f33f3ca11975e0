"""An evaluation of several files: one text, one context, one reference computed at most once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from plm_edge.console import Progress, no_progress
from plm_edge.errors import InputError
from plm_edge.eval import measure, store, text
from plm_edge.eval.measure import Outcome
from plm_edge.eval.model import EvalModel, Options
from plm_edge.eval.text import Text, Windows
from plm_edge.eval.vocabulary import Vocabulary
from plm_edge.gguf_header import GgufHeader


@dataclass(frozen=True)
class Model:
    """A file to evaluate and the sha256 of its bytes."""

    header: GgufHeader
    sha256: str


@dataclass(frozen=True)
class Session:
    """What all files of one evaluation share."""

    lib_dir: Path
    engine: str
    text: Text
    options: Options
    limit: int | None = None
    top: int = store.DEFAULT_TOP

    def windows(self, header: GgufHeader) -> Windows:
        """The text cut by a file's vocabulary."""
        with Vocabulary(header, self.lib_dir) as vocabulary:
            return text.windows(self.text, vocabulary, self.options.context, self.limit)

    def key(self, model: Model, windows: Windows) -> store.Key:
        """What a reference of this session depends on."""
        size = model.header.tensor("token_embd.weight").shape[0]
        return store.Key(
            model_sha256=model.sha256,
            tokens_sha256=windows.sha256,
            engine=self.engine,
            context=windows.context,
            windows=len(windows.tokens),
            cache_type=self.options.cache_type,
            top=min(self.top, size),
        )

    def reference(
        self, model: Model, windows: Windows, progress: Progress = no_progress
    ) -> NDArray[Any]:
        """The packed distributions of a reference, from the store or computed now."""
        if self.windows(model.header).tokens != windows.tokens:
            raise InputError(
                f"{model.header.path}: cuts {self.text.path} into other tokens; a reference must "
                "have the same vocabulary"
            )
        key = self.key(model, windows)

        def fill(rows: NDArray[Any]) -> None:
            with EvalModel(model.header, self.lib_dir, self.options) as loaded:
                measure.filler(loaded, windows, key.top, progress)(rows)

        return store.ensure(key, windows.judged, fill)

    def measure(
        self,
        model: Model,
        windows: Windows,
        reference: NDArray[Any] | None,
        progress: Progress = no_progress,
    ) -> Outcome:
        """One file on the text."""
        with EvalModel(model.header, self.lib_dir, self.options) as loaded:
            return measure.evaluate(loaded, windows, reference, progress)
