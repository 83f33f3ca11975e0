"""The options that commands for devices share; light, since every `--help` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from plm_edge.chat.preflight import CacheType

DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="Run on this device (`device list`)."),
]
ForceFlag = Annotated[
    bool, typer.Option("--force", help="Go on although the device does not seem to fit.")
]
RepackFlag = Annotated[
    bool,
    typer.Option(
        "--repack/--no-repack",
        help="--device: rearrange weights for its CPU, which is faster but holds them in memory.",
    ),
]


@dataclass(frozen=True)
class Ask:
    """What is wanted of a device."""

    ctx: int = 0
    cache_type: CacheType = "f16"
    threads: int | None = None
    conversations: int = 1
    is_forced: bool = False
    is_verbose: bool = False
    repacks: bool = True
