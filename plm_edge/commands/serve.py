"""`plm-edge serve`: an OpenAI-compatible server on this machine, with a page to chat on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from plm_edge import console, shell
from plm_edge.commands._context import CtxOption, resolved
from plm_edge.commands._data import DryRunFlag, JsonFlag
from plm_edge.commands._device_options import Ask, DeviceOption, ForceFlag, RepackFlag
from plm_edge.commands._ready_engine import ready_engine
from plm_edge.errors import PlmEdgeError, UsageError

if TYPE_CHECKING:
    from plm_edge.chat.server import ServeOptions
    from plm_edge.engine.cache import Engine
    from plm_edge.gguf_header import GgufHeader

app = typer.Typer()

KEY_VARIABLES = ["PLM_EDGE_API_KEY", "LLAMA_API_KEY"]


@app.command()
def serve(
    file: Annotated[Path, typer.Argument(help="The model, a GGUF file.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8080,
    ctx: CtxOption = 0,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Conversations at once.")] = 2,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, max=512, help="Default: big cores.")
    ] = None,
    cache_type: Annotated[
        Literal["f16", "q8_0"], typer.Option(help="KV cache: q8_0 takes half the memory.")
    ] = "f16",
    ui: Annotated[
        bool | None, typer.Option("--ui/--no-ui", help="The web page; default: if npm is there.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar=KEY_VARIABLES, help="Refuse requests without it; safer as variable."),
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file with one key a line.")] = None,
    device: DeviceOption = None,
    force: ForceFlag = False,
    repack: RepackFlag = True,
    as_json: JsonFlag = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Serve a model over HTTP, as OpenAI's API, until Ctrl-C."""
    from plm_edge.chat import preflight, server
    from plm_edge.chat.threads import default_threads

    header = preflight.checked_header(file)
    if device is not None:
        ask = Ask(ctx, cache_type, threads, parallel, is_forced=force, repacks=repack)
        keys = {"api_key": api_key, "api_key_file": api_key_file}
        _on_device(device, header, ask, Front(host, port, ui, keys, as_json, dry_run))
        return
    context = resolved(header, ctx, cache_type, parallel)
    options = server.ServeOptions(
        host=host,
        port=server.free_port(host, port),
        context_tokens=context or preflight.shape_of(header).max_position_embeddings,
        parallel=parallel,
        threads=threads or default_threads(),
        cache_type=cache_type,
        alias=server.alias_of(header),
        api_key=api_key,
        api_key_file=api_key_file,
    )
    server.check(header, options)
    if warning := preflight.context_warning(header, ctx):
        console.warn(warning)
    if options.is_open:
        console.warn(f"anybody who can reach {host}:{options.port} can use it; pass --api-key")
    if dry_run:
        _show_plan(header, options, as_json)
        return
    engine = _engine(ui)
    _serve(header, replace(options, has_page=engine.has_ui and ui is not False), engine, as_json)


@dataclass(frozen=True)
class Front:
    """What is seen of a server on a device from here, and how to tell."""

    host: str
    port: int
    ui: bool | None
    keys: dict[str, Any]
    as_json: bool
    is_dry: bool


def _on_device(name: str, header: GgufHeader, ask: Ask, front: Front) -> None:
    """Serve from a device: its server on its own loopback, its port on ours."""
    from plm_edge.chat import preflight, server
    from plm_edge.commands import _device, _device_server

    if not server.is_loopback(front.host):
        raise UsageError(f"--host {front.host}: a device's server is reached from here alone")
    port = server.free_port(front.host, front.port)
    preflight.require_key(front.keys["api_key"], front.keys["api_key_file"])
    preflight.require_template(header)
    with _device.seen(name, header, ask) as it:
        if front.is_dry:
            _device.show_plan(it, header.path, [_device.SERVER], as_json=front.as_json)
            return
        engine = _device.ready_engine(name, it.profile, ui=bool(front.ui))
        made = _device_server.options_of(it, server.alias_of(header), port)
        options = replace(made, has_page=engine.has_ui and bool(front.ui), **front.keys)
        with (
            server.StopSignals() as is_told_to_stop,
            _device_server.running(it, engine, header.path, options) as running,
        ):
            if running.wait_until_ready(is_told_to_stop):
                _announce(options, options.has_page, front.as_json)
                running.wait_until_stopped(is_told_to_stop)
    console.note("stopped")


def _engine(ui: bool | None) -> Engine:
    """The engine, with the web page unless that is unwanted or impossible."""
    from plm_edge.engine import build
    from plm_edge.engine import ui as page

    if ui is False or ((built := build.current("edge")) is not None and built.has_ui):
        return ready_engine()
    if not page.is_possible():
        console.note("npm is not installed: the API alone, without the web page")
        return ready_engine()
    try:
        return ready_engine(ui=True)
    except PlmEdgeError as error:
        if ui:
            raise
        console.warn(f"no web page, the API alone: {error.message.splitlines()[0]}")
        return ready_engine()


def _serve(header: GgufHeader, options: ServeOptions, engine: Engine, as_json: bool) -> None:
    from plm_edge.chat import server
    from plm_edge.paths import state_dir

    words = server.command(engine.tool("llama-server"), header.path, options)
    environment = server.environment(engine.run_environment(), options)
    log = state_dir() / "logs" / f"serve-{options.port}.log"
    if header.is_random:
        console.note("random weights: the answers are noise")
    with server.StopSignals() as is_told_to_stop:
        console.note(f"loading {header.path.name} (log: {log})")
        with server.Server(words, environment, options, log) as running:
            if running.wait_until_ready(is_told_to_stop):
                _announce(options, options.has_page and running.has_page(), as_json)
                running.wait_until_stopped(is_told_to_stop)
    console.note("stopped")


def _announce(options: ServeOptions, has_page: bool, as_json: bool) -> None:
    base_url = f"{options.url}/v1"
    page = options.url if has_page else None
    if as_json:
        console.print_json({"base_url": base_url, "page": page, "model": options.alias})
    else:
        print(f"API   {base_url}", flush=True)
        if page:
            print(f"chat  {page}", flush=True)
    console.note("Ctrl-C stops the server")


def _show_plan(header: GgufHeader, options: ServeOptions, as_json: bool) -> None:
    from plm_edge.chat import server
    from plm_edge.engine import build

    engine = build.current("edge")
    tool = engine.tool("llama-server") if engine else Path("llama-server")
    words = server.command(tool, header.path, options)
    if as_json:
        console.print_json({"engine": engine and str(engine.folder), "command": words})
        return
    print(shell.quote(words))
