"""The commands of the terminal chat: one table, from which `/help` is printed as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from plm_edge.chat import session
from plm_edge.chat.screen import Screen, exchange_count, speed_text, status_text
from plm_edge.chat.session import Conversation, SavedChat
from plm_edge.chat.talk import Chat, Reply
from plm_edge.errors import InputError
from plm_edge.paths import state_dir


@dataclass
class State:
    """What commands look at and change."""

    chat: Chat
    screen: Screen
    last_reply: Reply | None = None
    is_done: bool = False


@dataclass(frozen=True)
class Command:
    """A command: what follows its name, what it does in a few words, and the function."""

    argument: str
    summary: str
    run: Callable[[State, str], None]


def is_command(text: str) -> bool:
    """Whether a message is meant for the program: `//` at the start sends a slash to the model."""
    return text.startswith("/") and not text.startswith("//")


def as_message(text: str) -> str:
    """What the model gets: one slash for two."""
    return text[1:] if text.startswith("//") else text


def run(state: State, line: str) -> None:
    """Do what `line` says; `InputError` for a command there is not."""
    name, _, argument = line.strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        raise InputError(f"no command {name}", hint="/help lists them; // sends a slash")
    if argument.strip() and not command.argument:
        raise InputError(f"{name} takes nothing after it")
    command.run(state, argument.strip())


def _help(state: State, argument: str) -> None:
    for name, command in COMMANDS.items():
        state.screen.line(f"{name + ' ' + command.argument:<16} {command.summary}")
    state.screen.line(
        "Enter sends, Alt-Enter starts a new line, pasted lines stay together.\n"
        "Ctrl-C stops an answer, Ctrl-D leaves. Start with // to send a /."
    )


def _reset(state: State, argument: str) -> None:
    state.chat.conversation = Conversation(state.chat.conversation.system)
    state.screen.line("(the conversation is empty)")


def _system(state: State, argument: str) -> None:
    if not argument:
        state.screen.line(state.chat.conversation.system or "(no system prompt)")
        return
    text = "" if argument == "-" else argument
    state.chat.conversation = replace(state.chat.conversation, system=text)
    state.screen.line("(system prompt set)" if text else "(system prompt removed)")


def _save(state: State, argument: str) -> None:
    path = session_path(argument)
    replaced = " again" if path.exists() else ""
    session.save(path, SavedChat(state.chat.conversation, state.chat.model_id))
    state.screen.line(f"(saved{replaced}: {path})")


def _load(state: State, argument: str) -> None:
    if not argument:
        names = sorted(path.stem for path in sessions_dir().glob("*.json"))
        state.screen.line("saved: " + ", ".join(names) if names else "(nothing is saved)")
        return
    saved = session.load(session_path(argument))
    state.chat.conversation = saved.conversation
    state.screen.line(f"(loaded {exchange_count(saved.conversation.exchanges())})")
    if saved.model != state.chat.model_id:
        state.screen.line(f"(it was held with another model: {saved.model.file})")


def _stats(state: State, argument: str) -> None:
    for name, value in stats(state).items():
        state.screen.line(f"{name:<14} {value}")


def _quit(state: State, argument: str) -> None:
    state.is_done = True


COMMANDS = {
    "/help": Command("", "this list", _help),
    "/reset": Command("", "forget the conversation, keep the system prompt", _reset),
    "/system": Command("[TEXT]", "show or set the system prompt; - removes it", _system),
    "/save": Command("NAME", "save the conversation under a name, or to a path", _save),
    "/load": Command("[NAME]", "go on with a saved conversation; list them", _load),
    "/stats": Command("", "speed, context and memory", _stats),
    "/quit": Command("", "leave", _quit),
}


def stats(state: State) -> dict[str, str]:
    """Label → value of everything worth knowing about the chat so far."""
    chat, model = state.chat, state.chat.model
    talk, used = chat.conversation, model.used_tokens
    cache_bytes = model.cache_bytes_per_token
    rows = {
        "model": model.name + (" (random weights)" if model.header.is_random else ""),
        "threads": str(model.options.threads),
        "context": f"{used} of {model.context_tokens} tokens",
        "cache": f"{model.options.cache_type}, {cache_bytes} B per token, "
        f"{cache_bytes * used / 1e6:.1f} MB in use",
        "conversation": exchange_count(talk.exchanges()),
        "seed": str(chat.sampling.seed),
    }
    if reply := state.last_reply:
        rows["last prompt"] = (
            f"{reply.prompt_tokens} tokens, {reply.reused_tokens} of them from the cache, "
            f"{speed_text(reply.prompt_tokens_per_second, model)}"
        )
        rows["last answer"] = status_text(reply, model)
    return rows


def sessions_dir() -> Path:
    """The folder of conversations saved by name."""
    return state_dir() / "sessions"


def session_path(argument: str) -> Path:
    """A path if it looks like one, else a name in the sessions folder."""
    if not argument:
        raise InputError("say under which name", hint="/save NAME")
    path = Path(argument).expanduser()
    if len(path.parts) > 1 or path.suffix == ".json":
        return path
    if argument.startswith("."):
        raise InputError(f"{argument!r} is no name for a conversation")
    return sessions_dir() / f"{argument}.json"
