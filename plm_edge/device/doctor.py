"""Looks a device over: what would keep it from running, or from running fast, each with its fix."""

from __future__ import annotations

from plm_edge.device import board_checks, checks, fit, probe, snapshot, storage
from plm_edge.device.adb import AdbTransport
from plm_edge.device.connect import connect
from plm_edge.device.emulated import EmulatedTransport
from plm_edge.device.finding import Finding, ok
from plm_edge.device.profile import Profile
from plm_edge.device.snapshot import Snapshot
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError


def examine(name: str, profile: Profile, *, with_storage: bool = True) -> list[Finding]:
    """Everything there is to say about a device; a wire that fails is the only finding then."""
    try:
        with connect(name, profile) as transport:
            return _examine(transport, profile, with_storage)
    except DeviceError as error:
        return [Finding("connection", "problem", error.message, error.hint)]


def _examine(transport: Transport, profile: Profile, with_storage: bool) -> list[Finding]:
    answers = snapshot.take(transport, {**snapshot.PROBE, **snapshot.DOCTOR})
    speed = storage.read_speed(transport) if with_storage else None
    findings = [_connection(transport), *judge(transport, profile, answers)]
    return findings + (list(storage.check(speed)) if with_storage else [])


def _connection(transport: Transport) -> Finding:
    if isinstance(transport, AdbTransport):
        return ok("connection", f"adb, {transport.serial}, this computer is allowed")
    kind = type(transport).__name__.removesuffix("Transport").lower()
    return ok("connection", kind)


def judge(transport: Transport, profile: Profile, answers: Snapshot) -> list[Finding]:
    """The findings in a snapshot; pure but for the names of the device and its folder."""
    facts = probe.read(answers)
    if isinstance(transport, EmulatedTransport):
        facts = probe.pretended(facts, transport)
    return [
        _processor(transport.name, profile, facts),
        *checks.bits(answers),
        *checks.governor(answers),
        *checks.load(answers, facts),
        *board_checks.thermal(answers, profile),
        *board_checks.supply(answers),
        *checks.memory(facts),
        *checks.swap(answers, facts),
        *checks.pressure(answers, facts),
        *checks.page_size(facts),
        *board_checks.firmware(answers, facts),
        *checks.disk(facts, transport.folder),
        *checks.mount(answers, transport.folder),
        *board_checks.battery(answers),
    ]


def _processor(name: str, profile: Profile, facts: probe.Facts) -> Finding:
    try:
        fit.require_fit(name, profile, facts)
    except DeviceError as error:
        return Finding("processor", "problem", error.message, error.hint)
    big = len(facts.big_cores)
    return ok("processor", f"{facts.core_names}; {big} of {len(facts.cores)} cores are big")
