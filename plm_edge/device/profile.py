"""A device profile: what a machine is, as far as building for it and predicting it needs to know.

Read from `devices/*.toml`; the file's stem is the device's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plm_edge import resources, schema


@dataclass(frozen=True)
class Build:
    """How binaries for the device are made."""

    toolchain: Literal["native"] = "native"


@dataclass(frozen=True)
class Transport:
    """The wire to the device."""

    kind: Literal["local"] = "local"


@dataclass(frozen=True)
class Profile:
    """One device; `architecture` "native" means whatever this machine is."""

    description: str
    architecture: Literal["native"] = "native"
    build: Build = Build()
    transport: Transport = Transport()


def load(resource: resources.Resource) -> Profile:
    """The profile in a resource; `ConfigError` names file, table and key."""
    return schema.build(resources.read_table(resource), Profile, resource.path)


def find(name: str) -> Profile:
    """The profile named `name`."""
    return load(resources.find("devices", name))
