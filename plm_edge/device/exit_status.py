"""What a far program's exit status means, in our words."""

from __future__ import annotations

from plm_edge.device.process import Finished
from plm_edge.errors import DeviceError, PlmEdgeError, SpaceError, ToolError
from plm_edge.shell import failure_text, quote

CANNOT_EXECUTE, NOT_FOUND = 126, 127
ILLEGAL_INSTRUCTION, KILLED = 132, 137


def error_of(device: str, finished: Finished) -> PlmEdgeError:
    """The error of a program that ended with a status other than 0 on `device`."""
    program = finished.argv[0]
    if finished.code == ILLEGAL_INSTRUCTION:
        return DeviceError(
            f"{device}: {program} used an instruction this CPU does not have (SIGILL): "
            "it was built for another CPU",
            hint=quote(["plm-edge", "device", "probe", device]),
        )
    if finished.code == KILLED:
        return DeviceError(
            f"{device}: {program} was killed; most likely the device ran out of memory",
            hint="pass --ctx auto or a smaller --ctx, or take a smaller recipe",
        )
    if finished.code in (CANNOT_EXECUTE, NOT_FOUND):
        hint = quote(["plm-edge", "doctor", "--device", device])
        return DeviceError(_cannot_start(device, finished), hint=hint)
    if "No space left on device" in finished.stderr:
        hint = quote(["plm-edge", "device", "probe", device])
        return SpaceError(f"{device}: the disk is full", hint=hint)
    return ToolError(f"{device}: {failure_text(finished.argv, finished.code, _said(finished))}")


def _cannot_start(device: str, finished: Finished) -> str:
    reason = (_said(finished).strip().splitlines() or [""])[-1]
    what = "is not there" if finished.code == NOT_FOUND else "cannot be executed there"
    return f"{device}: {finished.argv[0]} {what}" + (f": {reason}" if reason else "")


def _said(finished: Finished) -> str:
    return finished.stderr or finished.stdout
