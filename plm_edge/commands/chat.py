"""`plm-edge chat`: talk to a model in the terminal, or ask it one thing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from plm_edge import console
from plm_edge.commands._context import CtxOption, resolved
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.commands._device_options import Ask, DeviceOption, ForceFlag, RepackFlag
from plm_edge.commands._ready_engine import ready_engine
from plm_edge.errors import UsageError

if TYPE_CHECKING:
    from plm_edge.chat.loaded import LoadedModel, ModelOptions
    from plm_edge.chat.model import ChatModel
    from plm_edge.chat.sampling import Sampling
    from plm_edge.chat.talk import Chat
    from plm_edge.gguf_header import GgufHeader

app = typer.Typer()

EXIT_INTERRUPTED = 130
HISTORY_NAME = "chat_history"


@app.command()
def chat(
    file: Annotated[Path, typer.Argument(help="The model, a GGUF file.")],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Answer this and leave.")
    ] = None,
    system: Annotated[str, typer.Option(help="The system prompt.")] = "",
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.7,
    top_k: Annotated[int, typer.Option(help="Choose among so many tokens; 0: all.")] = 40,
    top_p: Annotated[float, typer.Option(help="Choose among this share of likelihood.")] = 0.95,
    min_p: Annotated[float, typer.Option(help="Drop tokens below this share of the best.")] = 0.05,
    repeat_penalty: Annotated[float, typer.Option(help="Above 1 discourages repeats.")] = 1.05,
    seed: Annotated[int | None, typer.Option(help="Same seed, same answer.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 1024,
    ctx: CtxOption = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, max=512, help="Default: big cores.")
    ] = None,
    cache_type: Annotated[
        Literal["f16", "q8_0"], typer.Option(help="KV cache: q8_0 takes half the memory.")
    ] = "f16",
    device: DeviceOption = None,
    force: ForceFlag = False,
    repack: RepackFlag = True,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the engine's log.")] = False,
    as_json: JsonFlag = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Talk to a model in the terminal; with -p or piped input, answer once and leave."""
    from plm_edge.chat.loaded import ModelOptions
    from plm_edge.chat.preflight import checked_header, context_warning
    from plm_edge.chat.sampling import Sampling
    from plm_edge.chat.threads import default_threads

    sampling = Sampling(temperature, top_k, top_p, min_p, repeat_penalty, max_tokens, seed)
    header = checked_header(file)
    if warning := context_warning(header, ctx):
        console.warn(warning)
    if device is not None:
        ask = Ask(ctx, cache_type, threads, is_forced=force, is_verbose=verbose, repacks=repack)
        _on_device(device, header, ask, sampling, Turn(system, prompt, as_json, dry_run))
        return
    context = resolved(header, ctx, cache_type)
    options = ModelOptions(context, threads or default_threads(), cache_type, verbose=verbose)
    if dry_run:
        _show_plan(header, options, sampling, as_json)
        return
    message = _message(prompt, as_json=as_json)
    with _load(header, options) as model:
        _run(model, sampling, system, message, as_json)


@dataclass(frozen=True)
class Turn:
    """What to say first, and how to answer."""

    system: str
    prompt: str | None
    as_json: bool
    is_dry: bool


def _on_device(name: str, header: GgufHeader, ask: Ask, sampling: Sampling, turn: Turn) -> None:
    from plm_edge.commands import _device, _device_chat

    with _device.seen(name, header, ask) as it:
        if turn.is_dry:
            _device.show_plan(it, header.path, [_device.SERVER], as_json=turn.as_json)
            return
        message = _message(turn.prompt, as_json=turn.as_json)
        with _device_chat.loaded(it, header, ask) as model:
            _run(model, sampling, turn.system, message, turn.as_json)


def _message(prompt: str | None, *, as_json: bool) -> str | None:
    """The one question to answer, or None when a person is at the keyboard."""
    from plm_edge.chat import once

    if prompt is not None:
        return once.checked(prompt, "--prompt")
    if sys.stdin is None:  # closed by whoever started us
        raise UsageError("there is no stdin", hint='pass -p "..."')
    if not sys.stdin.isatty():
        return once.read_prompt(sys.stdin.buffer)
    if as_json:
        raise UsageError("--json needs one question", hint='add -p "..." or pipe a text in')
    return None


def _load(header: GgufHeader, options: ModelOptions) -> ChatModel:
    from plm_edge.chat.model import ChatModel

    engine = ready_engine()
    with console.byte_progress(f"loading {header.path.name}") as progress:
        return ChatModel(header, engine.lib_dir, options, progress)


def _run(
    model: LoadedModel, sampling: Sampling, system: str, message: str | None, as_json: bool
) -> None:
    from plm_edge.chat.talk import Chat

    talk = Chat(model, sampling, system)
    if model.header.is_random:
        console.note("random weights: the answers are noise")
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal that knows no emoji shows a question mark, and the answer goes on.
        sys.stdout.reconfigure(errors="replace")
    if message is None:
        _converse(talk)
    else:
        _answer_once(talk, message, as_json)


def _answer_once(talk: Chat, message: str, as_json: bool) -> None:
    from plm_edge.chat import once
    from plm_edge.chat.screen import Screen

    if as_json:
        reply = once.answer_silently(talk, message)
        console.print_json(once.document(talk, message, reply))
    else:
        reply = once.answer(talk, message, Screen())
    if reply.finish == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)


def _converse(talk: Chat) -> None:
    from plm_edge.chat import repl, slash
    from plm_edge.chat.keyboard import Keyboard
    from plm_edge.chat.screen import Screen
    from plm_edge.paths import state_dir

    keyboard = Keyboard(state_dir() / HISTORY_NAME, list(slash.COMMANDS))
    if keyboard.history_problem:
        console.warn(keyboard.history_problem)
    screen = Screen()
    screen.line(f"{talk.model.name}, {talk.model.context_tokens} tokens of context. /help helps.")
    repl.run(slash.State(talk, screen), keyboard)


def _show_plan(
    header: GgufHeader, options: ModelOptions, sampling: Sampling, as_json: bool
) -> None:
    from plm_edge.chat import plan
    from plm_edge.engine import build

    rows = plan.rows(header, options, sampling, build.current("edge"))
    if as_json:
        console.print_json(rows)
        return
    for name, value in rows.items():
        print(f"{name:<16} {value}")
