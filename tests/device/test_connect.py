"""From profiles to wires."""

from __future__ import annotations

import pytest

from plm_edge.device.adb import AdbTransport
from plm_edge.device.connect import connect, has_address
from plm_edge.device.emulated import EmulatedTransport
from plm_edge.device.local import LocalTransport
from plm_edge.device.profile import Build, Cpu, Profile, Transport
from plm_edge.device.ssh import SshTransport
from plm_edge.errors import DeviceError

CPU = Cpu(features=("asimd",), march="armv8-a", zig_cpu="generic", qemu_cpu="cortex-a53")


def profile(wire: Transport) -> Profile:
    return Profile("a test", "aarch64", cpu=CPU, build=Build("zig"), transport=wire)


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        (Transport("local"), LocalTransport),
        (Transport("ssh", host="192.0.2.7", user="pi", port=2222), SshTransport),
        (Transport("adb"), AdbTransport),
        (Transport("emulated"), EmulatedTransport),
    ],
)
def test_each_kind_of_wire(wire: Transport, kind: type) -> None:
    transport = connect("kitchen", profile(wire))

    assert type(transport) is kind
    assert transport.name == "kitchen"
    assert has_address(profile(wire))


def test_the_emulator_gets_the_profiles_cpu() -> None:
    transport = connect("pretend", profile(Transport("emulated")))

    assert isinstance(transport, EmulatedTransport)
    assert transport.cpu == "cortex-a53"


def test_a_phone_has_a_folder_where_programs_may_run() -> None:
    assert connect("phone", profile(Transport("adb"))).folder == "/data/local/tmp/plm-edge"


def test_a_kind_of_machine_has_no_address() -> None:
    kind = profile(Transport("ssh"))

    assert not has_address(kind)
    with pytest.raises(DeviceError, match="rpi5 is a kind of device") as caught:
        connect("rpi5", kind)
    assert "device add kitchen --extends rpi5" in str(caught.value.hint)
