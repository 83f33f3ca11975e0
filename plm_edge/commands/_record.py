"""The header of an evaluation's result, filled in from what the command knows."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plm_edge import console

if TYPE_CHECKING:
    from pathlib import Path

    from plm_edge.eval.record import Header
    from plm_edge.gguf_header import GgufHeader


@dataclass(frozen=True)
class Source:
    """What a result is about: its kind, and the text or data with its hash and context."""

    kind: str
    text: str
    text_sha256: str
    ctx: int


def make_header(source: Source, model: GgufHeader, digest: str, engine: str) -> Header:
    """The header for a result of `model` (its sha256) on `engine` (its key), here and now."""
    from plm_edge.bench import machine
    from plm_edge.eval.record import Header

    here = machine.read()
    return Header(
        kind=source.kind,
        command=command_line(),
        model=model.path.name,
        model_sha256=digest,
        model_bytes=model.size_bytes,
        layout=model.layout,
        is_random=model.is_random,
        engine=engine,
        machine=here.key,
        cpu=here.cpu,
        text=source.text,
        text_sha256=source.text_sha256,
        ctx=source.ctx,
    )


def sha256(path: Path) -> str:
    """The sha256 of a file, with a progress bar where it must be read."""
    from plm_edge.bench import fingerprint

    with console.byte_progress(f"hashing {path.name}") as progress:
        return fingerprint.sha256(path, progress)


def command_line() -> str:
    """What the user typed, to be run again."""
    return shlex.join(["plm-edge", *sys.argv[1:]])
