"""A virtual phone in every state adb knows, alone and in company."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.devices.conftest import started_phone
from tests.devices.phone import AdbServer, VirtualPhone
from tests.devices.user import User, eventually

pytestmark = [pytest.mark.slow, pytest.mark.device, pytest.mark.timeout(900)]

MODELS = "/data/local/tmp/plm-edge/models"
PART = f"find {MODELS} -name .big.gguf.part -size +2048k 2>/dev/null"


@pytest.fixture
def user(adb_server: AdbServer, tmp_path: Path) -> User:
    """Someone whose phone is the only one, usually."""
    user = User(tmp_path, adb_server.environment)
    user.succeeds("device", "add", "my-phone", "--extends", "android-arm64")
    return user


def test_without_a_phone(user: User) -> None:
    assert "no phone is connected" in user.fails("device", "probe", "my-phone")


def test_the_probe_tells_what_it_is(phone: VirtualPhone, user: User) -> None:
    told = json.loads(user.succeeds("device", "probe", "my-phone", "--json"))

    assert told["system"] == "Android 14"
    assert told["processor"] == "1x Cortex-A76"
    assert told["is_emulated"] is True
    assert told["fits"] is True


def test_a_phone_that_hangs_is_offline(phone: VirtualPhone, user: User) -> None:
    phone.machine.root_shell("pkill -STOP -f adbd/adbd")
    phone.unplug()
    phone.plug_in()
    try:
        assert "the phone is offline" in user.fails("device", "probe", "my-phone")
    finally:
        phone.machine.root_shell("pkill -CONT -f adbd/adbd")
        eventually(lambda: _replugged(phone) == "device")


def _replugged(phone: VirtualPhone) -> str:
    if (state := phone.server.state_of(phone.serial)) != "device":
        phone.unplug()
        phone.plug_in()
    return state


def test_two_phones_the_second_not_authorized(phone: VirtualPhone, user: User) -> None:
    with ExitStack() as stack:
        other = started_phone(stack, phone.server, is_secure=True)
        said = user.fails("device", "probe", "my-phone")
        assert "several phones are connected" in said
        assert phone.serial in said
        assert other.serial in said

        for name, one in (("first", phone), ("second", other)):
            words = ("--extends", "android-arm64", "--serial", one.serial)
            user.succeeds("device", "add", name, *words)
        user.succeeds("device", "probe", "first")
        assert "has not allowed this computer" in user.fails("device", "probe", "second")

        other.authorize()
        eventually(lambda: _replugged(other) == "device")
        user.succeeds("device", "probe", "second")
        other.unplug()
    assert "second" in user.fails("device", "probe", "second")


def test_a_pulled_cable_in_the_middle_of_a_push(
    phone: VirtualPhone, user: User, big_model: Path
) -> None:
    shell = phone.server.adb
    with user.started("deploy", str(big_model), "--device", "my-phone") as deploy:
        eventually(lambda: bool(shell("shell", PART).stdout) or deploy.poll() is not None, 240)
        phone.unplug()
        status = deploy.wait(240)
        said = deploy.stdout.read() if deploy.stdout else ""
    phone.plug_in()

    assert status == 3, said
    there = int(shell("shell", f"stat -c %s {MODELS}/.big.gguf.part").stdout)
    done = json.loads(user.succeeds("deploy", str(big_model), "--device", "my-phone", "--json"))
    assert done["sent_bytes"] <= big_model.stat().st_size - there
    names = shell("shell", f"ls -a {MODELS}").stdout.split()
    assert "big.gguf" in names
    assert ".big.gguf.part" not in names
    shell("shell", f"rm -r {MODELS}")


def test_a_program_that_needs_glibc_does_not_start_there(phone: VirtualPhone) -> None:
    """The phone is one: only what brings everything along runs."""
    assert phone.server.adb("shell", "ls /lib /lib64 /system/lib64").stdout == ""
    assert phone.server.adb("shell", "id -u").stdout.strip() == "2000"
