"""Exit statuses of the far side in our words."""

from __future__ import annotations

import shlex

import pytest

from plm_edge.device.exit_status import error_of
from plm_edge.device.process import Finished
from plm_edge.errors import DeviceError, SpaceError, ToolError


def _error(code: int, stderr: str = "") -> Exception:
    return error_of("kitchen", Finished(("/d/llama-bench", "-m", "x"), code, "", stderr))


@pytest.mark.parametrize(
    ("code", "stderr", "words"),
    [
        (132, "", "built for another CPU"),
        (137, "", "was killed; most likely the device ran out of memory"),
        (127, "sh: /d/llama-bench: not found", "is not there: sh: /d/llama-bench: not found"),
        (126, "sh: Permission denied", "cannot be executed there: sh: Permission denied"),
    ],
)
def test_ends_that_are_the_devices_fault(code: int, stderr: str, words: str) -> None:
    error = _error(code, stderr)

    assert isinstance(error, DeviceError)
    assert error.exit_code == 3
    assert str(error).startswith("kitchen: /d/llama-bench ")
    assert words in str(error)
    assert error.hint


def test_hints_can_be_pasted_whatever_the_name() -> None:
    error = error_of("my $(id) 'pi'", Finished(("/d/x",), 132, "", ""))

    assert shlex.split(error.hint or "") == ["plm-edge", "device", "probe", "my $(id) 'pi'"]


def test_a_full_disk_is_a_lack_of_space() -> None:
    assert isinstance(_error(1, "cat: write error: No space left on device\n"), SpaceError)


def test_any_other_end_is_the_programs_own() -> None:
    error = _error(1, "error: cannot load model\n")

    assert isinstance(error, ToolError)
    assert "ended with status 1:\nerror: cannot load model" in str(error)
