"""Probabilities of texts: many tokens at once against one by one, and files without numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plm_edge.chat.model import ModelOptions
from plm_edge.chat.scoring import _ROWS, ScoringModel
from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError
from plm_edge.gguf_header import read_header
from tests.chat.scripted import Script, write_scripted

pytestmark = pytest.mark.engine


def load(path: Path, engine: Engine, context: int = 512) -> ScoringModel:
    return ScoringModel(read_header(path), engine.lib_dir, ModelOptions(context))


def one_by_one(model: ScoringModel, prompt: list[int], tokens: list[int]) -> float:
    """Sum of log-probabilities, each from logits after a single token."""
    total = 0.0
    model.forget()
    model.feed(prompt, lambda: False)
    for token in tokens:
        logits = model.logits().astype(np.float64)
        total += logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        model.append(token)
    return total


@pytest.mark.parametrize("length", [1, 2, _ROWS, _ROWS + 1, 2 * _ROWS + 5])
def test_a_batch_gives_what_single_tokens_give(engine: Engine, tmp_path: Path, length: int) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(certainty=3.0, attention_seed=4))
    with load(path, engine) as model:
        prompt = model.tokenize("An opening", special=False)
        tokens = model.tokenize("one thing after another " * 8, special=False)[:length]
        expected = one_by_one(model, prompt, tokens)
        model.forget()
        model.feed(prompt, lambda: False)
        assert model.likelihood(tokens).log_probability == pytest.approx(expected, abs=1e-3)
        assert model.used_tokens == len(prompt) + length - 1


def test_what_the_model_says_is_certain_and_the_rest_is_not(engine: Engine, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(("a", "b", "c")))
    with load(path, engine) as model:
        prompt = model.tokenize("x\n", special=False)
        values = []
        for text in ("abc", "acb"):
            model.feed(prompt, lambda: False)
            values.append(model.likelihood(model.tokenize(text, special=False)))
        assert values[0].log_probability == pytest.approx(0, abs=1e-3)
        assert values[1].log_probability < -50
        assert [value.is_greedy for value in values] == [True, False]


def test_a_full_context_is_said(engine: Engine, scripted: Path) -> None:
    with load(scripted, engine, 256) as model:
        model.feed(model.tokenize("x", special=False), lambda: False)
        with pytest.raises(InputError, match="take 300 tokens, but the context holds 256"):
            model.likelihood(model.tokenize("y" * 300, special=False))


def test_output_that_is_no_number_is_said(engine: Engine, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "nan.gguf", Script(certainty=float("nan")))
    with load(path, engine) as model:
        model.feed(model.tokenize("x", special=False), lambda: False)
        with pytest.raises(InputError, match="not numbers"):
            model.likelihood(model.tokenize("yz", special=False))
