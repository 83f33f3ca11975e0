"""`plm-edge deploy`: put the engine and a model on a device, ready to run there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from plm_edge import console
from plm_edge.commands._context import CtxOption
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.commands._device_options import Ask, ForceFlag

if TYPE_CHECKING:
    from plm_edge.commands._device import Seen

app = typer.Typer()

TOOLS = ("llama-bench", "llama-completion", "llama-server")


@app.command()
def deploy(
    file: Annotated[Path, typer.Argument(help="The model, a GGUF file.")],
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Where to.")],
    ctx: CtxOption = 0,
    cache_type: Annotated[
        Literal["f16", "q8_0"], typer.Option(help="KV cache the memory is planned for.")
    ] = "f16",
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Send the engine and a model to a device; only what is not there yet."""
    from plm_edge.chat.preflight import checked_header
    from plm_edge.commands import _device

    header = checked_header(file)
    with _device.seen(device, header, Ask(ctx, cache_type, is_forced=force)) as it:
        if dry_run:
            _device.show_plan(it, file, TOOLS, as_json=as_json)
        else:
            _deploy(it, file, as_json)


def _deploy(it: Seen, file: Path, as_json: bool) -> None:
    from plm_edge.commands import _device
    from plm_edge.device.deploy import place_of

    engine = _device.ready_engine(it.transport.name, it.profile)
    wanted = _device.items(it.transport, engine, file, TOOLS)
    sent_bytes = _device.sent(it.transport, wanted)
    for line in it.plan.lines():
        console.note(line)
    places = [place_of(it.transport, item) for item in wanted]
    if as_json:
        console.print_json(
            {"sent_bytes": sent_bytes, "engine": engine.folder.name, "files": places}
        )
        return
    print(f"{it.transport.name}: {sent_bytes / 1e6:.1f} MB sent; in place:")
    for place in places:
        print(f"  {place}")
