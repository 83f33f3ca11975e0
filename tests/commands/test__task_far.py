"""A device's server answers tasks as the same file does in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.commands._task_far import FarTaskModel
from plm_edge.commands._task_model import EngineTaskModel
from plm_edge.engine.cache import Engine
from plm_edge.eval.tasks.model import Prompt, TooLongError
from tests.chat.scripted import Script, write_scripted
from tests.chat.test_far_model import Far, far, started
from tests.chat.test_scoring import load

__all__ = ["far", "started"]
pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("limit", "stop"), [(20, ()), (2, ()), (1, ()), (20, ("bc", "x")), (20, ("c",))]
)
def test_it_writes_what_the_file_writes_here(
    far: Far, engine: Engine, tmp_path: Path, limit: int, stop: tuple[str, ...]
) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(("a", "b", "c")))
    there = FarTaskModel(far(path)).complete(Prompt("Hello", is_chat=True), limit, stop)
    with load(path, engine) as loaded:
        here = EngineTaskModel(loaded).complete(Prompt("Hello", is_chat=True), limit, stop)
    assert there.text == here.text
    for name in ("prompt_tokens", "answer_tokens", "decoded_tokens"):
        assert getattr(there.timing, name) == getattr(here.timing, name), name
    assert 0 < there.timing.first_token_seconds <= there.timing.total_seconds
    assert (there.timing.answer_seconds > 0) == (there.timing.decoded_tokens > 0)


def test_continuations_have_the_probabilities_they_have_here(
    far: Far, engine: Engine, tmp_path: Path
) -> None:
    # So unsure a model gives every continuation a probability worth comparing.
    script = Script(("a", "b", "c"), attention_seed=3, certainty=0.5)
    path = write_scripted(tmp_path / "m.gguf", script)
    asked = (Prompt("x\n"), ["abc", "acb", "a", " zebra"])
    model = FarTaskModel(far(path))
    there = model.likelihoods(*asked)
    with load(path, engine) as loaded:
        here = EngineTaskModel(loaded).likelihoods(*asked)
    assert there.values == pytest.approx(here.values, rel=2e-3)
    assert there.greedy == here.greedy
    assert there.values[0] < -1
    assert there.timing.answer_tokens == 0 and there.timing.first_token_seconds > 0
    # and from an empty cache again: nothing of the items before is in the next one's times
    assert model.likelihoods(*asked).timing.prompt_tokens == there.timing.prompt_tokens


def test_the_sure_and_the_impossible(far: Far, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(("a", "b", "c")))
    found = FarTaskModel(far(path)).likelihoods(Prompt("Hello", is_chat=True), ["abc", "acb"])
    assert found.values[0] == pytest.approx(0, abs=1e-3)
    assert found.values[1] < -50
    assert found.greedy == (True, False)


def test_a_prompt_that_does_not_fit_is_said(far: Far, tmp_path: Path) -> None:
    model = FarTaskModel(far(write_scripted(tmp_path / "m.gguf"), 256))
    with pytest.raises(TooLongError, match="takes 300 tokens, but the context holds 255"):
        model.complete(Prompt("y" * 300), 5, ())
    with pytest.raises(TooLongError):
        model.likelihoods(Prompt("y" * 250), ["z" * 50])
    assert model.complete(Prompt("x\n"), 2, ()).text == "One two"
