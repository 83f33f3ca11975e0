"""Builds that would die are refused before they are sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plm_edge.device import profile as profiles
from plm_edge.device.fit import fitting, require_fit
from plm_edge.device.local import LocalTransport
from plm_edge.device.probe import probe, read
from plm_edge.errors import DeviceError
from tests.device import recorded


def test_every_board_takes_its_own_profile() -> None:
    require_fit("kitchen", profiles.find("rpi5"), read(recorded.pi_5()))
    require_fit("attic", profiles.find("rpi4"), read(recorded.pi_4()))
    require_fit("phone", profiles.find("snapdragon-8-gen-3"), read(recorded.phone()))
    require_fit("phone", profiles.find("android-arm64"), read(recorded.phone()))


def test_a_pi_5_build_on_a_pi_4_is_refused_and_the_right_one_named() -> None:
    with pytest.raises(DeviceError) as caught:
        require_fit("attic", profiles.find("rpi5"), read(recorded.pi_4()))

    assert "asimddp" in caught.value.message
    assert "4x Cortex-A72 does not have" in caught.value.message
    assert "SIGILL" in caught.value.message
    assert "--extends rpi4" in str(caught.value.hint)


def test_the_right_profile_for_an_emulated_cpu_is_named() -> None:
    facts = replace(read(recorded.pi_4()), is_emulated=True, model="emulated cortex-a72")

    with pytest.raises(DeviceError) as caught:
        require_fit("attic", profiles.find("rpi5"), facts)

    assert "--extends rpi4" in str(caught.value.hint)


def test_a_board_without_a_name_is_known_by_its_cores() -> None:
    """Such as a virtual machine; a Zero 2 W would run the same build, but is another board."""
    nameless = {"model": "linux,dummy-virt", "platform": "linux,dummy-virt "}
    facts = read(recorded.pi_4(**nameless))

    with pytest.raises(DeviceError) as caught:
        require_fit("attic", profiles.find("rpi5"), facts)

    assert "--extends rpi4 " in str(caught.value.hint)
    assert fitting(read(recorded.pi_5(**nameless)), "ssh")[0] == "rpi5"
    a53 = recorded.PI_4_CPUINFO.replace("0xd08", "0xd03")
    assert fitting(read(recorded.pi_4(**nameless, cpuinfo=a53)), "ssh")[0] == "rpi-zero-2w"


def test_a_phone_without_dotprod_gets_the_plain_build() -> None:
    facts = read(recorded.phone(cpuinfo=recorded.SNAPDRAGON_845_CPUINFO))

    with pytest.raises(DeviceError) as caught:
        require_fit("old", profiles.find("android-arm64"), facts)

    assert "--extends android-arm64-v8" in str(caught.value.hint)


def test_a_32_bit_system_is_refused() -> None:
    facts = read(recorded.pi_4(architecture="armv7l", cpuinfo=recorded.PI_4_32_BIT_CPUINFO))

    with pytest.raises(DeviceError, match="its system is armv7l") as caught:
        require_fit("attic", profiles.find("rpi4"), facts)

    assert "64-bit" in str(caught.value.hint)


def test_a_native_build_goes_only_to_a_machine_of_the_same_kind() -> None:
    native = profiles.find("host")
    other = replace(native, transport=profiles.Transport("ssh", host="x"))
    here = probe(LocalTransport("here"))

    require_fit("twin", other, here)
    require_fit("host", native, read(recorded.pi_5()))
    with pytest.raises(DeviceError, match="a native build is for"):
        require_fit("twin", other, replace(here, architecture="riscv64"))
    with pytest.raises(DeviceError, match=r"which its .* does not have"):
        require_fit("twin", other, replace(here, features=frozenset()))


def test_profiles_that_fit_come_best_first() -> None:
    assert fitting(read(recorded.pi_5()), "ssh")[0] == "rpi5"
    assert fitting(read(recorded.pi_4()), "ssh")[0] == "rpi4"
    assert fitting(read(recorded.phone()), "adb")[0] == "snapdragon-8-gen-3"
    assert "rpi5" not in fitting(read(recorded.pi_4()), "ssh")
