"""The user's own devices: written whole and valid, however awkward their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.device import own
from plm_edge.device import profile as profiles
from plm_edge.device.own import Address
from plm_edge.errors import ConfigError, InputError, UsageError


def test_a_pi_by_its_address() -> None:
    own.add("kitchen", "rpi5", Address(host="pi@192.0.2.7", port=2222))

    wire = profiles.find("kitchen").transport
    assert (wire.kind, wire.host, wire.user, wire.port) == ("ssh", "192.0.2.7", "pi", 2222)
    assert profiles.find("kitchen").cpu == profiles.find("rpi5").cpu


def test_a_phone_by_its_serial() -> None:
    own.add("my phone", "android-arm64", Address(serial="R5CT30ABCDE"))

    wire = profiles.find("my phone").transport
    assert (wire.kind, wire.serial, wire.folder) == (
        "adb",
        "R5CT30ABCDE",
        "/data/local/tmp/plm-edge",
    )


def test_an_emulated_one_needs_no_address() -> None:
    own.add("pretend", "rpi4", Address(is_emulated=True))

    assert profiles.find("pretend").transport.kind == "emulated"


@pytest.mark.parametrize("name", ["a b", "$(reboot)", "it's", '"x"', "ä*?", "a;b", "x\\y", "#1"])
def test_awkward_names_and_folders_come_back_as_they_are(name: str) -> None:
    path = own.add(name, "rpi5", Address(host="2001:db8::7", folder=f"/srv/{name}"))

    assert path.name == f"{name}.toml"
    assert profiles.find(name).transport.folder == f"/srv/{name}"
    assert profiles.find(name).transport.host == "2001:db8::7"


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "-x", "a\nb", "x" * 300, " "])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no name for a device"):
        own.add(name, "rpi5", Address(host="pi@x"))


@pytest.mark.parametrize("host", ["-oProxyCommand=id", "a b", "pi@", "pi@-x", "a@b@c"])
def test_what_is_no_address_leaves_no_file(host: str) -> None:
    with pytest.raises(ConfigError):
        own.add("kitchen", "rpi5", Address(host=host))

    assert not own.path_of("kitchen").exists()


def test_an_existing_one_is_replaced_only_when_told() -> None:
    own.add("kitchen", "rpi5", Address(host="a"))

    with pytest.raises(InputError, match="exists already"):
        own.add("kitchen", "rpi5", Address(host="b"))
    own.add("kitchen", "rpi5", Address(host="b"), replaces=True)

    assert profiles.find("kitchen").transport.host == "b"


def test_one_may_take_a_shipped_name() -> None:
    own.add("rpi5", "rpi5", Address(host="pi@x"))
    own.add("rpi5", "rpi5", Address(host="pi@y"), replaces=True)

    assert profiles.find("rpi5").transport.host == "y"


def test_one_level_of_extends() -> None:
    own.add("kitchen", "rpi5", Address(host="a"))

    with pytest.raises(ConfigError, match="one level only"):
        own.add("kitchen2", "kitchen", Address(host="b"))
    assert not own.path_of("kitchen2").exists()


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        own.add("kitchen", "rpi-5", Address(host="a"))

    assert "rpi5" in str(caught.value.hint)


@pytest.mark.parametrize(
    "address",
    [
        Address(host="a", serial="b"),
        Address(host="a", is_emulated=True),
        Address(port=22),
        Address(serial="x", identity_file=Path("k")),
    ],
)
def test_flags_that_do_not_go_together(address: Address) -> None:
    with pytest.raises(UsageError):
        own.add("kitchen", "rpi5", address)


def test_removing_leaves_what_is_shipped() -> None:
    own.add("rpi5", "rpi5", Address(host="pi@x"))

    own.remove("rpi5")

    assert resources.find("devices", "rpi5").origin == "shipped"
    with pytest.raises(InputError, match="comes with plm-edge and stays"):
        own.remove("rpi5")
    with pytest.raises(InputError, match="is none of your devices"):
        own.remove("nobody")
