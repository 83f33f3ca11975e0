"""The terminal chat as a person meets it: the real program, engine and keys, in a real terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chat import terminal
from tests.chat.scripted import Script, write_scripted
from tests.chat.terminal import (
    ALT_ENTER,
    CTRL_C,
    CTRL_D,
    ENTER,
    PASTE_END,
    PASTE_START,
    UP,
    Terminal,
)

pytestmark = pytest.mark.engine

Open = Callable[..., Terminal]
PROMPT = "\n>"


@pytest.fixture
def open_chat(with_engine: dict[str, str]) -> Iterator[Open]:
    """Starts `plm-edge chat FILE` and waits for its prompt."""
    running: list[Terminal] = []

    def start(file: Path, *flags: str) -> Terminal:
        command = terminal.plm_edge("chat", str(file), "--threads", "1", *flags)
        running.append(Terminal(command, with_engine).__enter__())
        running[-1].expect("/help helps.")
        running[-1].expect(PROMPT)
        return running[-1]

    yield start
    for shell in running:
        shell.__exit__(None, None, None)


def test_answers_turn_after_turn_and_says_how_fast(open_chat: Open, scripted: Path) -> None:
    chat = open_chat(scripted)
    chat.line("hello")
    chat.expect("One two three")
    chat.expect("[3 tokens, ")
    chat.expect("tok/s · context 27/4096 (1%)]")
    chat.line("and again")
    chat.expect("One two three")
    chat.line("/stats")
    chat.expect("2 exchanges")
    chat.expect("of them from the cache")
    chat.line("/quit")
    assert chat.wait() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(open_chat: Open, endless: Path) -> None:
    chat = open_chat(endless, "--max-tokens", "250000")
    chat.line("go")
    chat.expect("tick tock tick")
    chat.send(CTRL_C)
    chat.expect("(stopped)")
    chat.expect(PROMPT)
    chat.line("go again")
    chat.expect("tick tock tick")
    chat.send(CTRL_C)
    chat.expect("(stopped)")
    chat.expect(PROMPT)
    chat.send(CTRL_C)
    chat.expect("/quit or press Ctrl-D")
    chat.line("/stats")
    chat.expect("2 exchanges")
    chat.expect(PROMPT)  # between prompts the terminal itself would swallow the key
    chat.send(CTRL_D)
    assert chat.wait() == 0


def test_a_conversation_is_saved_forgotten_and_loaded_by_another_program(
    open_chat: Open, scripted: Path, own_folders: Path
) -> None:
    chat = open_chat(scripted, "--system", "Be kind.")
    chat.line("remember 7")
    chat.expect("One two three")
    chat.line("/save seven")
    chat.expect("(saved: ")
    chat.line("/reset")
    chat.expect("(the conversation is empty)")
    chat.line("/stats")
    chat.expect("0 exchanges")
    chat.line("/quit")
    assert chat.wait() == 0
    saved = json.loads((own_folders / "state/sessions/seven.json").read_text())
    assert [turn["text"] for turn in saved["turns"]] == ["remember 7", "One two three"]
    assert saved["system"] == "Be kind."
    again = open_chat(scripted)
    again.line("/load")
    again.expect("saved: seven")
    again.line("/load seven")
    again.expect("(loaded 1 exchange)")
    again.line("/system")
    again.expect("Be kind.")


def test_a_session_of_another_model_is_loaded_with_a_word(
    open_chat: Open, scripted: Path, endless: Path
) -> None:
    chat = open_chat(scripted)
    chat.line("hello")
    chat.expect("One two three")
    chat.line("/save it")
    chat.expect("(saved: ")
    other = open_chat(endless)
    other.line("/load it")
    other.expect("another model: scripted.gguf")


def test_a_broken_session_is_one_line_and_changes_nothing(
    open_chat: Open, scripted: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "bröken session.json"
    broken.write_text('{"format": "plm-edge chat", "version": 9}')
    chat = open_chat(scripted)
    chat.line("hello")
    chat.expect("One two three")
    chat.line(f"/load {broken}")
    chat.expect("version = 9, expected 1")
    chat.line("/stats")
    chat.expect("1 exchange\n")


def test_pasted_lines_are_one_message(open_chat: Open, scripted: Path, tmp_path: Path) -> None:
    chat = open_chat(scripted)
    chat.send(PASTE_START + "first line\nsecond line\n\nlast line" + PASTE_END)
    chat.send(ENTER)
    chat.expect("One two three")
    chat.line(f"/save {tmp_path}/pasted.json")
    chat.expect("(saved: ")
    turns = json.loads((tmp_path / "pasted.json").read_text())["turns"]
    assert [turn["text"] for turn in turns] == [
        "first line\nsecond line\n\nlast line",
        "One two three",
    ]


def test_alt_enter_starts_a_new_line(open_chat: Open, scripted: Path, tmp_path: Path) -> None:
    chat = open_chat(scripted)
    chat.send("one" + ALT_ENTER + "two" + ENTER)
    chat.expect("One two three")
    chat.line(f"/save {tmp_path}/lines.json")
    chat.expect("(saved: ")
    assert json.loads((tmp_path / "lines.json").read_text())["turns"][0]["text"] == "one\ntwo"


def test_input_is_remembered_between_programs_for_its_owner_alone(
    open_chat: Open, scripted: Path, own_folders: Path
) -> None:
    chat = open_chat(scripted)
    chat.line("a memorable question")
    chat.expect("One two three")
    chat.line("/quit")
    assert chat.wait() == 0
    assert (own_folders / "state/chat_history").stat().st_mode & 0o077 == 0
    again = open_chat(scripted)
    again.send(UP + UP)
    again.expect("a memorable question")
    again.send(ENTER)
    again.expect("One two three")


def test_unknown_commands_are_named_and_two_slashes_reach_the_model(
    open_chat: Open, scripted: Path, tmp_path: Path
) -> None:
    chat = open_chat(scripted)
    chat.line("/nonsense")
    chat.expect("no command /nonsense")
    chat.line("/reset now")
    chat.expect("/reset takes nothing after it")
    chat.line("//etc/hosts")
    chat.expect("One two three")
    chat.line(f"/save {tmp_path}/slash.json")
    chat.expect("(saved: ")
    turns = json.loads((tmp_path / "slash.json").read_text())["turns"]
    assert turns[0]["text"] == "/etc/hosts"


def test_help_lists_every_command(open_chat: Open, scripted: Path) -> None:
    chat = open_chat(scripted)
    chat.line("/help")
    for name in ("/help", "/reset", "/system", "/save", "/load", "/stats", "/quit", "Ctrl-C"):
        chat.expect(name)


def test_an_answer_cannot_command_the_terminal(open_chat: Open, tmp_path: Path) -> None:
    script = Script(("\x1b]0;owned\x07", "\x1b[2J", "done"))
    chat = open_chat(write_scripted(tmp_path / "hostile.gguf", script))
    chat.line("hello")
    chat.expect("\\x1b]0;owned\\x07\\x1b[2Jdone")


def test_a_full_context_drops_the_oldest_exchanges_and_says_so(
    open_chat: Open, scripted: Path
) -> None:
    chat = open_chat(scripted, "--ctx", "256")
    for _ in range(12):
        chat.line("x" * 20)
        chat.expect("One two three")
        chat.expect("tok/s")
    assert "the context is full: the oldest" in chat.shown()


def test_random_weights_are_called_random(open_chat: Open, tmp_path: Path) -> None:
    script = Script(overrides={"plm_edge.random": True})
    chat = open_chat(write_scripted(tmp_path / "random.gguf", script))
    assert "random weights: the answers are noise" in chat.shown()


def test_answers_can_be_collected_while_a_person_types(
    with_engine: dict[str, str], scripted: Path, tmp_path: Path
) -> None:
    command = " ".join(terminal.plm_edge("chat", str(scripted), "--threads", "1"))
    collected = tmp_path / "answers.txt"
    with Terminal(["/bin/sh", "-c", f"{command} > {collected}"], with_engine) as chat:
        chat.expect(PROMPT)
        chat.line("hello")
        chat.expect("3 tokens")
        chat.expect(PROMPT)
        chat.line("/quit")
        assert chat.wait() == 0
    assert collected.read_text() == "One two three\n"


def test_a_dumb_terminal_is_enough(with_engine: dict[str, str], scripted: Path) -> None:
    command = terminal.plm_edge("chat", str(scripted), "--threads", "1")
    with Terminal(command, {**with_engine, "TERM": "dumb"}) as chat:
        chat.expect(PROMPT)
        chat.line("hello")
        chat.expect("One two three")
        chat.line("/quit")
        assert chat.wait() == 0
