"""Conversations: what fits, what is left out, and what a session file may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plm_edge.chat import session
from plm_edge.chat.session import Conversation, ModelId, SavedChat, Turn, fit
from plm_edge.errors import InputError, PlmEdgeError

MODEL = ModelId("PLM", "plm.gguf", 123)


def held(exchanges: int, then: str = "now") -> Conversation:
    talk = Conversation("system")
    for index in range(exchanges):
        talk = talk.say("user", f"q{index}").say("assistant", f"a{index}")
    return talk.say("user", then)


def ten_each(talk: Conversation) -> int:
    return 10 * len(talk.messages())


def test_what_fits_is_left_alone() -> None:
    talk = held(3)
    assert fit(talk, ten_each, context_tokens=100, reserve_tokens=20) is talk


def test_oldest_exchanges_go_whole_and_the_system_prompt_stays() -> None:
    fitted = fit(held(6), ten_each, context_tokens=100, reserve_tokens=20)
    messages = fitted.messages()
    assert messages[0] == {"role": "system", "content": "system"}
    assert messages[1]["role"] == "user"
    assert messages[-1]["content"] == "now"
    assert len(fitted.turns) == 13  # nothing is forgotten, only left out


def test_room_is_made_for_several_turns_at_once() -> None:
    fitted = fit(held(6), ten_each, context_tokens=100, reserve_tokens=20)
    assert ten_each(fitted) <= 60
    later = fitted.say("assistant", "a").say("user", "q")
    assert fit(later, ten_each, context_tokens=100, reserve_tokens=20).left_out == fitted.left_out


def test_a_long_last_message_may_use_the_reserve() -> None:
    talk = Conversation("", (Turn("user", "long"),))
    assert fit(talk, lambda _: 95, context_tokens=100, reserve_tokens=20) is talk


def test_a_message_that_cannot_fit_says_what_would_do() -> None:
    with pytest.raises(InputError, match="takes 100 tokens, but the context holds 100") as caught:
        fit(held(2), lambda _: 100, context_tokens=100, reserve_tokens=20)
    assert caught.value.hint == "shorten it, or pass --ctx 256"


def test_a_session_comes_back_as_it_was(tmp_path: Path) -> None:
    talk = Conversation("sys", (Turn("user", "héllo 👋\n\x1b"), Turn("assistant", "")))
    path = tmp_path / "a folder" / "sitzung ü.json"
    session.save(path, SavedChat(talk, MODEL))
    assert session.load(path) == SavedChat(talk, MODEL)


def test_what_is_left_out_of_the_prompt_is_saved(tmp_path: Path) -> None:
    fitted = fit(held(6), ten_each, context_tokens=100, reserve_tokens=20)
    whole = fitted.say("assistant", "done")
    session.save(tmp_path / "s.json", SavedChat(whole, MODEL))
    assert session.load(tmp_path / "s.json").conversation.turns == whole.turns


def document(**changes: Any) -> dict[str, Any]:
    good = {
        "format": "plm-edge chat",
        "version": 1,
        "model": {"name": "PLM", "file": "plm.gguf", "size_bytes": 123},
        "system": "",
        "turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}],
    }
    return {**good, **changes}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a session file"),
        (b"\xff\xfe", "not a session file"),
        (b"[" * 100_000, "not a session file"),
        (b"[]", "the file is not a JSON object"),
        (b"{}", "format = None"),
        (document(format="other"), "format = 'other'"),
        (document(version=2), "version = 2"),
        (document(version="1"), "version = '1'"),
        (document(model=None), "model is not a JSON object"),
        (document(model={"name": "x", "file": "y"}), "size_bytes = None"),
        (document(model={"name": 1, "file": "y", "size_bytes": 1}), "name = 1"),
        (document(system=None), "system = None"),
        (document(turns={}), "turns is not a JSON list"),
        (document(turns=["x"]), "turn 0 is not a JSON object"),
        (document(turns=[{"role": "system", "text": "x"}]), "turn 0 has role 'system'"),
        (document(turns=[{"role": "assistant", "text": "x"}]), "expected 'user'"),
        (document(turns=[{"role": "user"}]), "text = None"),
        (document(turns=[{"role": "user", "text": "\ud800"}]), "expected text"),
    ],
)
def test_a_broken_session_names_the_file_and_the_place(
    tmp_path: Path, content: bytes | dict[str, Any], reason: str
) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(PlmEdgeError) as caught:
        session.load(path)
    assert caught.value.message.startswith(str(path))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


def test_the_good_document_is_good(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(document()))
    assert session.load(path).conversation.exchanges() == 1
