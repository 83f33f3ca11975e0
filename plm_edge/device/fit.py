"""Whether a build of a profile runs on the device that answered; said before anything is sent."""

from __future__ import annotations

import re

from plm_edge import resources
from plm_edge.device import profile as profiles
from plm_edge.device.local import LocalTransport
from plm_edge.device.probe import Facts, probe
from plm_edge.device.profile import Profile
from plm_edge.errors import DeviceError, PlmEdgeError
from plm_edge.shell import quote

_ARM64 = ("aarch64", "arm64")
_CORE = re.compile(r"(?:Cortex|Neoverse)-\w+")
# Features a compiler makes use of by itself when it builds for the machine it runs on.
_VECTOR = re.compile(r"avx|fma|f16c|bmi|sse|amx|gfni|asimd|sve|i8mm|bf16|atomics")


def require_fit(name: str, profile: Profile, facts: Facts) -> None:
    """Raise `DeviceError` if the profile's builds would not run there, naming one that would."""
    if profile.architecture == "native":
        if profile.transport.kind != "local":
            _require_same_kind(name, facts)
        return
    if facts.architecture not in _ARM64:
        raise DeviceError(
            f"{name}: its system is {facts.architecture}, and the engine is built for 64-bit ARM",
            hint="install a 64-bit system on it (Raspberry Pi OS Lite, 64-bit)",
        )
    missing = [feature for feature in profile.cpu.features if feature not in facts.features]
    if missing:
        raise DeviceError(
            f"{name}: builds for {profile.cpu.march} use {', '.join(missing)}, which its "
            f"{facts.core_names} does not have: they would end in SIGILL",
            hint=_better(name, profile, facts),
        )


def _require_same_kind(name: str, facts: Facts) -> None:
    """A native build is for this machine's processor; another must have all that ours has."""
    here = probe(LocalTransport("here"))
    if facts.architecture != here.architecture:
        raise DeviceError(
            f"{name}: a native build is for {here.architecture}, and it is {facts.architecture}",
            hint="plm-edge device list shows profiles to extend in place of host",
        )
    missing = sorted(filter(_VECTOR.match, here.features - facts.features))
    if missing:
        raise DeviceError(
            f"{name}: a native build for this machine's {here.core_names} uses "
            f"{', '.join(missing)}, which its {facts.core_names} does not have",
            hint="install plm-edge there; it builds for that machine",
        )


def fitting(facts: Facts, kind: str) -> list[str]:
    """Names of the shipped profiles whose builds run there, the most capable first.

    `kind` is the wire in use: among equals, profiles with the same one come first.
    """
    found: list[tuple[bool, bool, int, bool, str]] = []
    for resource in resources.list_all("devices"):
        try:
            candidate = profiles.load(resource)
        except PlmEdgeError:
            continue  # a broken file of the user's own; `device validate` tells
        wanted = candidate.cpu.features
        if resource.origin == "shipped" and wanted and facts.features.issuperset(wanted):
            is_named, same_cores = _is_of(candidate, facts), _has_its_cores(candidate, facts)
            same_wire = candidate.transport.kind == kind
            rank = (not is_named, not same_cores, -len(wanted), not same_wire, resource.name)
            found.append(rank)
    return [name for *_, name in sorted(found)]


def _is_of(candidate: Profile, facts: Facts) -> bool:
    """Whether the device calls itself what the profile describes, or pretends to be its CPU."""
    if facts.is_emulated:
        return candidate.cpu.qemu_cpu is not None and facts.model.endswith(candidate.cpu.qemu_cpu)
    return candidate.description.lower() in facts.model.lower()


def _has_its_cores(candidate: Profile, facts: Facts) -> bool:
    """Whether the profile's kinds of cores are the device's: boards may not tell their name."""
    kinds = set(_CORE.findall(candidate.cpu.name))
    return bool(kinds) and kinds == set(facts.cores)


def _better(name: str, profile: Profile, facts: Facts) -> str:
    kind = profile.transport.kind
    names = fitting(facts, "ssh" if kind == "emulated" else kind)
    if not names:
        return "no shipped profile fits this processor; plm-edge device list"
    words = ["plm-edge", "device", "add", name, "--extends", names[0], "--replace"]
    return f"{quote(words)}, and the address again"
