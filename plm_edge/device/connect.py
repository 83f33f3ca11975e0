"""From a profile to the wire it describes."""

from __future__ import annotations

from pathlib import Path

from plm_edge import resources
from plm_edge.device import profile as profiles
from plm_edge.device.adb import AdbTransport
from plm_edge.device.emulated import EmulatedTransport
from plm_edge.device.local import LocalTransport
from plm_edge.device.profile import Profile
from plm_edge.device.ssh import SshAddress, SshTransport
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError
from plm_edge.shell import quote

SSH_FOLDER = ".cache/plm-edge"
ADB_FOLDER = "/data/local/tmp/plm-edge"


def connect(name: str, profile: Profile) -> Transport:
    """The wire to the device `name`; nothing is sent over it yet.

    Raises `DeviceError` for a profile that is a kind of machine and not one with an address.
    """
    wire = profile.transport
    if wire.kind == "local":
        return LocalTransport(name)
    if wire.kind == "emulated":
        cpu = profile.cpu.qemu_cpu or "max"
        return EmulatedTransport(name, cpu, _features_of(cpu) or frozenset(profile.cpu.features))
    if wire.kind == "adb":
        return AdbTransport(name, wire.serial, wire.folder or ADB_FOLDER)
    if wire.host is None:
        raise no_address(name)
    address = SshAddress(
        wire.host,
        wire.user,
        wire.port,
        Path(wire.identity_file).expanduser() if wire.identity_file else None,
        Path(wire.config_file).expanduser() if wire.config_file else None,
    )
    return SshTransport(name, address, wire.folder or SSH_FOLDER)


def _features_of(cpu: str) -> frozenset[str]:
    """What a CPU model of qemu's has: the features of the shipped profile it stands for."""
    for resource in resources.list_all("devices"):
        if resource.origin == "shipped":
            known = profiles.load(resource).cpu
            if known.qemu_cpu == cpu:
                return frozenset(known.features)
    return frozenset()


def has_address(profile: Profile) -> bool:
    """Whether the profile says where the device is; a phone may be the only one connected."""
    return profile.transport.kind != "ssh" or profile.transport.host is not None


def no_address(name: str) -> DeviceError:
    """The error for a kind of machine where one of yours is needed."""
    return DeviceError(
        f"{name} is a kind of device; which one is yours is not known",
        hint=f"plm-edge device add kitchen --extends {quote([name])} --host USER@ADDRESS",
    )
