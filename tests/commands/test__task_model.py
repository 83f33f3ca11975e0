"""The engine as a task sees it: what is asked, where answers end, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.commands._task_model import EngineTaskModel
from plm_edge.engine.cache import Engine
from plm_edge.eval.tasks.model import Prompt, TooLongError
from tests.chat.scripted import Script, write_scripted
from tests.chat.test_scoring import load

pytestmark = pytest.mark.engine


@pytest.fixture
def model(engine: Engine, tmp_path: Path) -> Iterator[EngineTaskModel]:
    """Answers "abc" and ends; knows each letter as a token."""
    path = write_scripted(tmp_path / "m.gguf", Script(("a", "b", "c")))
    with load(path, engine) as loaded:
        yield EngineTaskModel(loaded)


def test_an_answer_ends_where_the_model_ends_it(model: EngineTaskModel) -> None:
    done = model.complete(Prompt("Hello", is_chat=True), 20, ())
    assert done.text == "abc"
    timing = done.timing
    assert (timing.answer_tokens, timing.decoded_tokens) == (3, 3)
    assert timing.prompt_tokens > 5
    assert 0 < timing.first_token_seconds <= timing.total_seconds


def test_an_answer_ends_at_the_limit(model: EngineTaskModel) -> None:
    done = model.complete(Prompt("Hello", is_chat=True), 2, ())
    # The second token is read off what the first one gave; nothing more is computed.
    assert (done.text, done.timing.answer_tokens, done.timing.decoded_tokens) == ("ab", 2, 1)


def test_an_answer_ends_before_a_stop_text(model: EngineTaskModel) -> None:
    assert model.complete(Prompt("Hello", is_chat=True), 20, ("bc", "x")).text == "a"


def test_plain_prompts_go_on_from_their_text(model: EngineTaskModel) -> None:
    assert model.complete(Prompt("x\n"), 20, ()).text == "abc"


def test_continuations_are_judged_as_one_text_with_the_prompt(model: EngineTaskModel) -> None:
    found = model.likelihoods(Prompt("x\n"), ["abc", "acb", "a"])
    assert found.values[0] == pytest.approx(0, abs=1e-3)
    assert found.values[2] == pytest.approx(0, abs=1e-3)
    assert found.values[1] < -50
    assert found.greedy == (True, False, True)
    assert found.timing.answer_tokens == 0


def test_a_merge_across_the_seam_belongs_to_the_continuation(
    engine: Engine, tmp_path: Path
) -> None:
    # The vocabulary merges "o" and "n": after the prompt "o" the text "n" makes one token "on".
    path = write_scripted(tmp_path / "m.gguf", Script(("on",)))
    with load(path, engine) as loaded:
        assert len(loaded.tokenize("\non", special=False)) == 2
        found = EngineTaskModel(loaded).likelihoods(Prompt("\no"), ["n"])
    assert found.values[0] == pytest.approx(0, abs=1e-3)


def test_a_prompt_that_does_not_fit_is_said(engine: Engine, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "m.gguf")
    with load(path, engine, 256) as loaded:
        model = EngineTaskModel(loaded)
        with pytest.raises(TooLongError, match="takes 300 tokens, but the context holds 256"):
            model.complete(Prompt("y" * 300), 5, ())
        with pytest.raises(TooLongError):
            model.likelihoods(Prompt("y" * 250), ["z" * 50])
        # and the model is still good for the next item
        assert model.complete(Prompt("x\n"), 2, ()).text == "One two"
