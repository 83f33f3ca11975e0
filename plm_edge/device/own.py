"""The user's own devices: a small file each that extends a shipped profile and says where it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from plm_edge import paths, resources, schema
from plm_edge.device.profile import Profile
from plm_edge.errors import InputError, UsageError
from plm_edge.resources import Resource
from plm_edge.shell import quote

_NAME_LIMIT_BYTES = 200


@dataclass(frozen=True)
class Address:
    """Where a device is, as typed: `host` may be `user@host`."""

    host: str | None = None
    port: int | None = None
    serial: str | None = None
    folder: str | None = None
    identity_file: Path | None = None
    config_file: Path | None = None
    is_emulated: bool = False

    def table(self) -> dict[str, str | int]:
        """The `[transport]` table; raises `UsageError` for flags that do not go together."""
        if sum((self.host is not None, self.serial is not None, self.is_emulated)) > 1:
            raise UsageError("--host, --serial and --emulated: pass one of them")
        if self.host is None and (self.port or self.identity_file or self.config_file):
            raise UsageError("--port, --identity-file and --ssh-config need --host")
        user, _, host = (self.host or "").rpartition("@")
        values: dict[str, str | int | None] = {
            "kind": self._kind(),
            "host": None if self.host is None else host,
            "user": user or None,
            "port": self.port,
            "serial": self.serial,
            "folder": self.folder,
            "identity_file": str(self.identity_file.absolute()) if self.identity_file else None,
            "config_file": str(self.config_file.absolute()) if self.config_file else None,
        }
        return {key: value for key, value in values.items() if value is not None}

    def _kind(self) -> str | None:
        if self.is_emulated:
            return "emulated"
        if self.serial is not None:
            return "adb"
        return "ssh" if self.host is not None else None


def path_of(name: str) -> Path:
    """The file of the user's device `name`; `InputError` for what is no name."""
    # A dash in front would read as an option on every command line.
    is_name = re.fullmatch(r"[^\s./\x00-\x1f\x7f-][^/\x00-\x1f\x7f]*", name)
    if is_name is None or len(name.encode("utf-8", "replace")) > _NAME_LIMIT_BYTES:
        raise InputError(f"{name!r} is no name for a device", hint="use letters, digits and '-'")
    return paths.config_dir() / "devices" / f"{name}.toml"


def text_of(name: str, extends: str, address: Address) -> str:
    """The file's content, checked: what it extends is known and the address makes sense."""
    resources.find("devices", extends)
    lines = [f"# {_where(address)}", f"#   {quote(['plm-edge', 'doctor', '--device', name])}"]
    lines += ["schema = 1", f"extends = {_quoted(extends)}"]
    if table := address.table():
        lines += ["", "[transport]", *(f"{key} = {_quoted(v)}" for key, v in table.items())]
    return "\n".join(lines) + "\n"


def add(name: str, extends: str, address: Address, *, replaces: bool = False) -> Path:
    """Write the user's device `name`; whole and valid, or not at all."""
    target = path_of(name)
    if target.exists() and not replaces:
        raise InputError(f"{target}: exists already", hint="pass --replace to write it anew")
    text = text_of(name, extends, address)
    with paths.atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
        _check(name, target, temporary)
    return target


def remove(name: str) -> Path:
    """Delete the user's own device; shipped profiles stay."""
    target = path_of(name)
    if not target.exists():
        shipped = [r.name for r in resources.list_all("devices") if r.name == name]
        why = "comes with plm-edge and stays" if shipped else "is none of your devices"
        raise InputError(f"{name} {why}", hint="plm-edge device list")
    try:
        target.unlink()
    except OSError as error:
        raise paths.write_error(target, error) from error
    return target


def _check(name: str, target: Path, temporary: Path) -> Profile:
    """Load the new file as it will be found, above the one of the same name that it may hide."""
    overrides = None
    for known in resources.list_all("devices"):
        if known.name == name:
            overrides = known.overrides if known.path == target else known.path
    resource = Resource("devices", name, temporary, "user", overrides)
    return schema.build(resources.read_table(resource), Profile, target)


def _where(address: Address) -> str:
    if address.is_emulated:
        return "emulated on this machine"
    return address.host or (f"adb {address.serial}" if address.serial else "a device of mine")


def _quoted(value: str | int) -> str:
    # A JSON string is a TOML string as long as it has no control characters, which none may have.
    return json.dumps(value, ensure_ascii=False)
