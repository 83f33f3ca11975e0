"""`--ctx`: a number of tokens, or `auto` for the largest context that fits the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.errors import UsageError

if TYPE_CHECKING:
    from plm_edge.chat.preflight import CacheType
    from plm_edge.gguf_header import GgufHeader

AUTO = -1


def parse(value: str | int) -> int:
    """Tokens, 0 for the model's own length, or `AUTO`; the default comes as a number."""
    text = str(value).strip()
    if text == "auto":
        return AUTO
    if not text.isdecimal():
        raise UsageError(f"--ctx {text}: expected a number of tokens, or auto")
    return int(text)


CtxOption = Annotated[
    int,
    typer.Option(
        "--ctx",
        parser=parse,
        metavar="N|auto",
        help="Context in tokens; 0: the model's; auto: what fits the memory.",
    ),
]


def resolved(header: GgufHeader, ctx: int, cache_type: CacheType, conversations: int = 1) -> int:
    """`ctx` for this machine: `AUTO` becomes the largest that fits its memory."""
    if ctx != AUTO:
        return ctx
    from plm_edge.chat import preflight
    from plm_edge.device import memory, probe
    from plm_edge.device.local import LocalTransport

    load = memory.Load(preflight.shape_of(header), header.size_bytes, cache_type, conversations)
    here = "this machine"
    return memory.plan(here, load, probe.probe(LocalTransport(here)), None).context_tokens
