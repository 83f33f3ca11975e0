"""The doctor on recorded devices, through a wire that replays what they said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from plm_edge.device import doctor, snapshot
from plm_edge.device import profile as profiles
from plm_edge.device.transport import Transport
from plm_edge.errors import DeviceError
from tests.device import recorded


class Replay(Transport):
    """Answers every question with what a device said once."""

    def __init__(self, name: str, answers: dict[str, str], folder: str) -> None:
        super().__init__(name)
        self._answers = answers
        self._folder = folder

    @property
    def folder(self) -> str:
        return self._folder

    def wire(self, line: str) -> list[str]:
        parts = (f"@@plm-edge {name}\n{text}\n" for name, text in self._answers.items())
        said = "".join(parts)
        return ["sh", "-c", 'printf "%s" "$1"; echo plm-edge-status:0 >&2', "sh", said]

    def wire_error(self, status: int, stderr: str) -> DeviceError:
        return DeviceError(f"{self.name}: {stderr}")

    @contextmanager
    def forward(self, port: int, near: int = 0) -> Iterator[int]:
        yield port


def examined(
    monkeypatch: pytest.MonkeyPatch, profile: str, answers: dict[str, str], folder: str
) -> dict[str, str]:
    wire = Replay("kitchen", answers, folder)
    monkeypatch.setattr(doctor, "connect", lambda name, profile: wire)
    findings = doctor.examine("kitchen", profiles.find(profile), with_storage=False)
    assert all(finding.fix for finding in findings if finding.level in ("warning", "problem"))
    return {finding.check: finding.level for finding in findings}


def test_the_replay_is_what_a_wire_gives() -> None:
    wire = Replay("kitchen", recorded.pi_5(), "/home/pi")

    assert snapshot.take(wire, snapshot.PROBE)["model"] == "Raspberry Pi 5 Model B Rev 1.0"


def test_a_healthy_pi(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = recorded.pi_5(
        cpus=recorded.CPUS_PI_5.replace("ondemand", "performance"),
        pressure="some avg10=0.00 avg60=0.00 avg300=0.00 total=0",
        bootloader="SDRAM_BANKLOW=1",
        command_line="numa=fake=8 psi=1",
    )
    levels = examined(monkeypatch, "rpi5", answers, "/home/pi/.cache/plm-edge")

    assert set(levels.values()) == {"ok"}
    assert {"connection", "processor", "governor", "supply", "swap", "mount"} <= set(levels)


def test_a_pi_in_a_bad_way(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = recorded.pi_4(
        throttled=recorded.THROTTLED_NOW,
        thermal="82000 cpu-thermal",
        swaps="Filename\n/var/swap file 524272 500000 -2",
    )
    levels = examined(monkeypatch, "rpi5", answers, "/home/pi/.cache/plm-edge")

    assert levels["processor"] == "problem"
    bad = ("temperature", "supply", "throttling", "swap", "swap in use", "governor")
    assert {levels[check] for check in bad} == {"warning"}


def test_a_phone_with_a_folder_on_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = recorded.phone(mounts="/dev/fuse /sdcard fuse rw,noexec 0 0", power_saver="1")
    levels = examined(monkeypatch, "snapdragon-8-gen-3", answers, "/sdcard/plm-edge")

    assert levels["mount"] == "problem"
    assert levels["battery"] == "ok"
    assert levels["power saver"] == "warning"


def test_a_device_that_does_not_answer_is_one_finding_with_a_fix() -> None:
    [finding] = doctor.examine("rpi5", profiles.find("rpi5"))

    assert (finding.check, finding.level) == ("connection", "problem")
    assert "device add" in str(finding.fix)


def test_this_machine_can_be_looked_over() -> None:
    findings = doctor.examine("host", profiles.find("host"), with_storage=False)

    assert findings[0].message == "local"
    assert {"processor", "memory", "disk", "mount"} <= {finding.check for finding in findings}
