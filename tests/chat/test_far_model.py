"""A model behind a server, used as one that is loaded here: the same answers, and no leftovers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.chat import far_server, once, screen, server, slash
from plm_edge.chat.far_model import FarModel
from plm_edge.chat.far_server import FarServer
from plm_edge.chat.loaded import ModelOptions
from plm_edge.chat.sampling import Sampling
from plm_edge.chat.talk import Chat
from plm_edge.device.local import LocalTransport
from plm_edge.engine.cache import Engine
from plm_edge.errors import DeviceError
from plm_edge.gguf_header import read_header
from tests.chat.conftest import Load
from tests.chat.scripted import CHATML, Script, write_scripted

GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0, seed=1)
Far = Callable[..., FarModel]


@pytest.fixture
def started(engine: Engine) -> Iterator[Callable[..., FarServer]]:
    """Starts servers on this machine as on a device, and ends them afterwards."""
    with ExitStack() as stack:

        def start(path: Path, context_tokens: int = 2048) -> FarServer:
            port = server.free_port("127.0.0.1", 0)
            options = server.ServeOptions(
                "127.0.0.1", port, context_tokens, 1, 1, "f16", "far model"
            )
            tool = str(engine.tool("llama-server"))
            words = far_server.command(tool, str(path), options)
            there = stack.enter_context(
                far_server.serving(LocalTransport("kitchen"), words, port, port)
            )
            assert there.wait_until_ready()
            return there

        yield start


@pytest.fixture
def far(started: Callable[..., FarServer]) -> Iterator[Far]:
    """Models that compute in such a server."""
    with ExitStack() as stack:

        def open_model(path: Path, context_tokens: int = 2048) -> FarModel:
            there = started(path, context_tokens)
            options = ModelOptions(context_tokens, 1)
            model = FarModel(read_header(path), options, there.url, there.explain)
            return stack.enter_context(model)

        yield open_model


def ask(chat: Chat, text: str) -> str:
    pieces: list[str] = []
    reply = chat.ask(text, pieces.append)
    assert "".join(pieces) == reply.text
    return reply.text


@pytest.mark.engine
@pytest.mark.parametrize("question", ["Hello?", "And 😀 <|im_end|> again?", "a\nb " * 150])
def test_it_answers_as_the_same_model_here(
    far: Far, load: Load, tmp_path: Path, question: str
) -> None:
    script = Script((" a", " b", " c", "\n", " d"), attention_seed=3, certainty=60.0)
    path = write_scripted(tmp_path / "m.gguf", script)
    sampling = replace(GREEDY, max_tokens=40)

    here = Chat(load(path, 2048), sampling).ask(question, lambda text: None)
    there = Chat(far(path), sampling).ask(question, lambda text: None)

    # The server sends whole characters only: an unfinished one at the very end never comes.
    assert here.text.startswith(there.text)
    assert (there.prompt_tokens, there.answer_tokens) == (here.prompt_tokens, here.answer_tokens)


@pytest.mark.engine
def test_turns_and_counts_are_the_same_too(far: Far, load: Load, scripted: Path) -> None:
    here, there = Chat(load(scripted, 2048), GREEDY), Chat(far(scripted), GREEDY)

    for question in ("one", "two", "three"):
        near, distant = (chat.ask(question, lambda text: None) for chat in (here, there))
        assert (distant.prompt_tokens, distant.answer_tokens) == (
            near.prompt_tokens,
            near.answer_tokens,
        )
    assert there.conversation == here.conversation
    assert there.model.used_tokens == here.model.used_tokens


@pytest.mark.engine
def test_a_character_of_several_tokens_arrives_whole(far: Far, tmp_path: Path) -> None:
    script = Script(("Hi ", b"\xf0\x9f", b"\x98\x80", " there"))
    chat = Chat(far(write_scripted(tmp_path / "m.gguf", script)), GREEDY)

    assert ask(chat, "x") == "Hi 😀 there"


@pytest.mark.engine
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(("Hi ", b"\xf0", b"\x9f", " there"), id="broken"),
        pytest.param(("Hi ", b"\xf0\x9f", "!", b"\xc3", b"\xe2"), id="broken, unfinished"),
        pytest.param(("Hi ", b"\xe2\x82"), id="unfinished"),
    ],
)
def test_a_broken_character_counts_as_the_tokens_it_is(
    far: Far, load: Load, tmp_path: Path, pieces: tuple[str | bytes, ...]
) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(pieces))
    here, there = Chat(load(path, 2048), GREEDY), Chat(far(path), GREEDY)

    for question in ("one", "two"):
        near, distant = (chat.ask(question, lambda text: None) for chat in (here, there))
        assert (distant.answer_tokens, distant.finish) == (near.answer_tokens, "stop")
        assert near.text.startswith(distant.text)
    limited = replace(GREEDY, max_tokens=2)
    near, distant = (
        Chat(chat.model, limited).ask("x", lambda text: None) for chat in (here, there)
    )
    assert (distant.answer_tokens, distant.finish) == (near.answer_tokens, "length")


@pytest.mark.engine
def test_the_next_turn_goes_on_from_the_cache(far: Far, scripted: Path) -> None:
    model = far(scripted)
    chat = Chat(model, GREEDY)

    first = chat.ask("one", lambda text: None)
    used = model.used_tokens
    second = chat.ask("two", lambda text: None)

    assert (first.text, first.finish) == ("One two three", "stop")
    assert used == first.prompt_tokens + first.answer_tokens
    assert second.reused_tokens >= first.prompt_tokens


@pytest.mark.engine
def test_an_emulated_device_shows_no_speed(far: Far, scripted: Path) -> None:
    model = far(scripted)
    model.options = replace(model.options, is_emulated=True)
    chat = Chat(model, GREEDY)

    reply = chat.ask("x", lambda text: None)
    document = once.document(chat, "x", reply)

    assert document["emulated"] is True
    assert not any("second" in key for key in document["stats"])
    assert "tok/s" not in screen.status_text(reply, model)
    assert "tok/s" not in str(slash.stats(slash.State(chat, screen.Screen(), reply)))


@pytest.mark.engine
def test_stopping_keeps_what_was_said_and_frees_the_server(far: Far, endless: Path) -> None:
    model = far(endless)
    chat = Chat(model, Sampling(seed=1, max_tokens=100_000))
    pieces: list[str] = []

    reply = chat.ask("go", pieces.append, lambda: len(pieces) >= 5)

    assert (reply.finish, reply.text) == ("interrupted", "".join(pieces))
    assert reply.text.startswith(" tick tock")
    started_at = time.monotonic()
    assert chat.ask("more", pieces.append, lambda: len(pieces) >= 8).finish == "interrupted"
    assert time.monotonic() - started_at < 60  # 100,000 tokens would take minutes


@pytest.mark.engine
def test_stopping_while_the_prompt_is_read_changes_nothing(far: Far, endless: Path) -> None:
    chat = Chat(far(endless), GREEDY)

    reply = chat.ask("word " * 200, lambda text: None, lambda: True)

    assert (reply.finish, reply.text, chat.conversation.turns) == ("interrupted", "", ())


@pytest.mark.engine
def test_limits_of_length_and_context(far: Far, endless: Path) -> None:
    model = far(endless, 512)

    assert Chat(model, Sampling(seed=1, max_tokens=3)).ask("x", lambda t: None).finish == "length"
    reply = Chat(model, Sampling(seed=1, max_tokens=100_000)).ask("x", lambda text: None)
    assert reply.finish == "context"


@pytest.mark.engine
def test_the_vocabulary_is_read_as_the_engine_reads_it(
    far: Far, load: Load, tmp_path: Path
) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(template=CHATML))
    there, here = far(path), load(path, 512)
    text = "a<|im_start|>b 😀 <|endoftext|>"

    assert there.bos_tokens() == here.bos_tokens()
    assert there.special_text("eos") == here.special_text("eos")
    for special in (True, False):
        tokens = here.tokenize(text, special=special)
        assert there.tokenize(text, special=special) == tokens
        assert there.control_texts(tokens) == here.control_texts(tokens)
    assert (there.name, there.cache_bytes_per_token) == (here.name, here.cache_bytes_per_token)


@pytest.mark.engine
def test_a_server_that_is_killed_is_explained(
    started: Callable[..., FarServer], endless: Path
) -> None:
    there = started(endless)
    header = read_header(endless)
    pids = _pids_of(endless)
    with FarModel(header, ModelOptions(2048, 1), there.url, there.explain) as model:
        chat = Chat(model, Sampling(seed=1, max_tokens=100_000))

        def kill(text: str) -> None:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            pids.clear()

        with pytest.raises(DeviceError, match=r"kitchen: .* ran out of memory"):
            chat.ask("go", kill)


def _pids_of(model: Path) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"llama-server") and str(model).encode() in words:
            found.append(int(folder.name))
    return found
