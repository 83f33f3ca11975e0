"""`plm-edge device`: the machines PLM can run on, and your own ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag, add_data_commands
from plm_edge.resources import Resource

if TYPE_CHECKING:
    from plm_edge.device.probe import Facts
    from plm_edge.device.profile import Profile

app = typer.Typer(
    help="Devices: list, show, validate, copy, add, remove, probe, doctor.", no_args_is_help=True
)
NameArgument = Annotated[str, typer.Argument(help="The device's name.")]


def _load(resource: Resource) -> Any:
    from plm_edge.device import profile

    return profile.load(resource)


add_data_commands(app, "devices", _load)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What you want to call it.")],
    extends: Annotated[str, typer.Option(help="The profile it is one of, such as rpi5.")],
    host: Annotated[str | None, typer.Option(help="ssh: USER@ADDRESS.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="ssh: port.")] = None,
    identity_file: Annotated[Path | None, typer.Option(help="ssh: private key.")] = None,
    ssh_config: Annotated[Path | None, typer.Option(help="ssh: configuration file.")] = None,
    serial: Annotated[str | None, typer.Option(help="adb: serial, or ADDRESS:PORT.")] = None,
    folder: Annotated[str | None, typer.Option(help="Folder there for our files.")] = None,
    emulated: Annotated[bool, typer.Option("--emulated", help="Run here, by qemu-user.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Write it anew.")] = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Add a device of your own."""
    from plm_edge.device import own

    address = own.Address(host, port, serial, folder, identity_file, ssh_config, emulated)
    if dry_run:
        print(f"# would write {own.path_of(name)}")
        print(own.text_of(name, extends, address), end="")
        return
    print(own.add(name, extends, address, replaces=replace))


@app.command()
def remove(name: NameArgument, dry_run: DryRunFlag = False) -> None:
    """Forget a device of your own; what lies on the device stays."""
    from plm_edge.device import own

    if dry_run:
        print(f"would delete {own.path_of(name)}")
        return
    print(own.remove(name))


@app.command()
def probe(name: NameArgument, as_json: JsonFlag = False) -> None:
    """Ask a device what it is, and whether its profile's builds run there."""
    from plm_edge.device import connect, profile
    from plm_edge.device import probe as prober

    device = profile.find(name)
    with connect.connect(name, device) as transport:
        facts = prober.probe(transport)
    verdict = _verdict(name, device, facts)
    if as_json:
        console.print_json({**_rows(facts), **vars(verdict)})
        return
    for key, value in _rows(facts).items():
        shown = " ".join(value) if isinstance(value, list) else value
        print(f"{key:<16} {shown}")
    print(f"{'fits':<16} {verdict.reason or 'yes'}")
    print(f"{'profiles':<16} {' '.join(verdict.profiles)}")


@app.command()
def doctor(
    name: NameArgument,
    storage: Annotated[bool, typer.Option(help="Measure how fast its disk reads.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Look a device over; each finding comes with what mends it."""
    from plm_edge.commands import _doctor

    _doctor.show(name, with_storage=storage, as_json=as_json)


@dataclass(frozen=True)
class Verdict:
    """Whether a profile fits, why not, and which shipped ones would."""

    fits: bool
    reason: str | None
    profiles: list[str]


def _verdict(name: str, device: Profile, facts: Facts) -> Verdict:
    from plm_edge.device import fit
    from plm_edge.errors import DeviceError

    profiles = fit.fitting(facts, device.transport.kind)
    try:
        fit.require_fit(name, device, facts)
    except DeviceError as error:
        return Verdict(False, error.message, profiles)
    return Verdict(True, None, profiles)


def _rows(facts: Facts) -> dict[str, Any]:
    return {
        "model": facts.model,
        "system": facts.system,
        "architecture": facts.architecture,
        "processor": facts.core_names,
        "big_cores": list(map(str, facts.big_cores)),
        "features": sorted(facts.features),
        "page_size_bytes": facts.page_size_bytes,
        "memory_bytes": facts.memory_bytes,
        "available_bytes": facts.available_bytes,
        "free_disk_bytes": facts.free_disk_bytes,
        "is_emulated": facts.is_emulated,
    }
