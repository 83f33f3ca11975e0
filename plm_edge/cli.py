"""The root command: finds verbs by file name, loads one only when it is called or listed.

Errors are caught here, once: ours become one line and a hint; anything else is a bug report.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from plm_edge import __version__
from plm_edge.errors import EXIT_BUG, PlmEdgeError

COMMANDS_DIR = Path(__file__).parent / "commands"
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def command_names() -> list[str]:
    """One verb per file of `commands/`; names with a leading underscore are shared parts."""
    stems = (path.stem for path in COMMANDS_DIR.glob("*.py"))
    return sorted(stem.replace("_", "-") for stem in stems if not stem.startswith("_"))


class RootGroup(TyperGroup):
    """Loads a verb's module on demand and turns exceptions into messages and exit codes."""

    def list_commands(self, ctx: Any) -> list[str]:
        return command_names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in command_names():
            return None
        module = importlib.import_module(f"plm_edge.commands.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PlmEdgeError as error:
            show_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from error
        except BrokenPipeError as error:
            # The reader went away (`| head`); keep Python's exit from complaining about it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_BROKEN_PIPE) from error
        except Exception as error:
            if is_control_flow(error):
                raise
            show_bug()
            raise typer.Exit(EXIT_BUG) from error


def is_control_flow(error: BaseException) -> bool:
    """Whether typer itself means to handle this exception (exit, abort, wrong usage)."""
    return type(error).__module__.split(".")[0] == "typer"


def show_error(error: PlmEdgeError) -> None:
    """One line for what failed, one for what to do."""
    print(f"plm-edge: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


def show_bug() -> None:
    """The trace of a bug, with what a report needs."""
    traceback.print_exc()
    print(
        f"plm-edge: this is a bug in plm-edge {__version__} "
        f"(Python {platform.python_version()}, {platform.platform()}).\n"
        "hint: report it with the lines above and the command you ran",
        file=sys.stderr,
    )


def _version(show: bool) -> None:
    if show:
        print(f"plm-edge {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=RootGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    overlay: Annotated[
        Path | None,
        typer.Option(help="Folder searched first for converters, recipes, devices, patches."),
    ] = None,
) -> None:
    """Run PLM on the device in your hand, as fast as its memory bus allows."""
    if overlay is not None:
        from plm_edge.resources import set_overlay

        set_overlay(overlay)
