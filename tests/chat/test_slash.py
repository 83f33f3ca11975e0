"""The chat's commands without a model: what they change, and what they refuse."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from plm_edge.chat import slash
from plm_edge.chat.screen import Screen
from plm_edge.chat.session import Conversation, ModelId
from plm_edge.errors import InputError


class FakeChat:
    """A chat of which the commands under test need only the conversation and the name."""

    def __init__(self, file: str = "m.gguf") -> None:
        self.conversation = Conversation("Be kind.").say("user", "q").say("assistant", "a")
        self.model_id = ModelId("m", file, 1)


class Shell:
    """Runs commands and keeps what they show."""

    def __init__(self, file: str = "m.gguf") -> None:
        self.err = io.StringIO()
        self.chat: Any = FakeChat(file)
        self.state = slash.State(self.chat, Screen(io.StringIO(), self.err))

    def run(self, line: str) -> str:
        start = len(self.err.getvalue())
        slash.run(self.state, line)
        return self.err.getvalue()[start:]


def test_only_one_slash_makes_a_command() -> None:
    assert slash.is_command("/help")
    assert not slash.is_command("//help")
    assert not slash.is_command("help /help")
    assert slash.as_message("//etc") == "/etc"
    assert slash.as_message("plain") == "plain"


def test_help_names_every_command() -> None:
    shown = Shell().run("/help")
    assert all(name in shown for name in slash.COMMANDS)


def test_reset_keeps_the_system_prompt() -> None:
    shell = Shell()
    shell.run("/reset")
    assert shell.chat.conversation == Conversation("Be kind.")


def test_the_system_prompt_is_shown_set_and_removed() -> None:
    shell = Shell()
    assert shell.run("/system") == "Be kind.\n"
    shell.run("/system  Be brief. ")
    assert shell.chat.conversation.system == "Be brief."
    assert len(shell.chat.conversation.turns) == 2
    shell.run("/system -")
    assert shell.run("/system") == "(no system prompt)\n"


def test_saved_by_name_or_path_and_loaded_again(tmp_path: Path) -> None:
    shell = Shell()
    path = tmp_path / "new folder" / "my chat.json"
    assert str(path) in shell.run(f"/save {path}")
    assert "(saved: " in shell.run("/save first")
    assert "(saved again: " in shell.run("/save first")
    shell.run("/reset")
    assert shell.run("/load") == "saved: first\n"
    assert shell.run("/load first") == "(loaded 1 exchange)\n"
    assert shell.chat.conversation == FakeChat().conversation
    assert "another model: m.gguf" in Shell("other.gguf").run(f"/load {path}")


def test_nothing_saved_is_said() -> None:
    assert Shell().run("/load") == "(nothing is saved)\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/nonsense", "no command /nonsense"),
        ("/", "no command /"),
        ("/quit now", "/quit takes nothing after it"),
        ("/save", "say under which name"),
        ("/save .hidden", "is no name"),
        ("/load nothing-of-this-name", "cannot read"),
    ],
)
def test_what_cannot_be_done_is_an_error_and_changes_nothing(line: str, reason: str) -> None:
    shell = Shell()
    with pytest.raises(InputError, match=reason):
        shell.run(line)
    assert shell.chat.conversation == FakeChat().conversation
    assert not shell.state.is_done


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        Shell().run(f"/save {tmp_path}/file/chat.json")


def test_quit_ends_the_chat() -> None:
    shell = Shell()
    shell.run("/quit")
    assert shell.state.is_done
