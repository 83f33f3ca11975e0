"""Programs for another CPU, run here by qemu-user."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from plm_edge.device.emulated import QEMU, EmulatedTransport, is_aarch64
from plm_edge.errors import DeviceError, MissingToolError
from tests.device.tiny_arm import write_program

needs_qemu = pytest.mark.skipif(
    shutil.which(QEMU) is None, reason=f"{QEMU} is not installed (apt-get install qemu-user)"
)


@needs_qemu
def test_a_pushed_program_runs_on_the_devices_cpu(tmp_path: Path) -> None:
    pretend = EmulatedTransport("pretend", "cortex-a76")
    far = pretend.path("bin", "my program")
    pretend.push(
        write_program(tmp_path / "p", status=7, uses_dotprod=True), far, is_executable=True
    )

    assert pretend.run([far], check=False).code == 7


@needs_qemu
def test_a_program_for_a_newer_cpu_dies_as_on_the_device(tmp_path: Path) -> None:
    program = write_program(tmp_path / "program", uses_dotprod=True)

    with pytest.raises(DeviceError, match="built for another CPU") as caught:
        EmulatedTransport("pretend", "cortex-a72").run([str(program)])

    assert caught.value.exit_code == 3


def test_this_machines_programs_are_not_emulated() -> None:
    assert EmulatedTransport("pretend", "no-such-cpu").run(["echo", "hi"]).stdout == "hi\n"


def test_without_qemu_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = write_program(tmp_path / "program")
    monkeypatch.setattr("shutil.which", lambda tool: None)

    with pytest.raises(MissingToolError) as caught:
        EmulatedTransport("pretend", "cortex-a72").run([str(program)])

    assert caught.value.hint == "sudo apt-get install qemu-user"


def test_only_arm_programs_are_taken_for_such(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello")

    assert is_aarch64(write_program(tmp_path / "program"))
    assert not is_aarch64(Path("/bin/sh").resolve())
    assert not is_aarch64(text)
    assert not is_aarch64(tmp_path / "missing")
    assert not is_aarch64(Path("sh"))
