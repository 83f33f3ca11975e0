"""adb's words and states, from recorded sessions with a stand-in for the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.device.adb import AdbTransport, parse_devices
from plm_edge.errors import DeviceError

# adb 1.0.41 on Debian 12: no phone, its server just started; then phones in every state.
STARTING = """\
* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached

"""
STATES = """\
List of devices attached
R5CT30ABCDE\tdevice
emulator-5554\toffline
127.0.0.1:15555\tunauthorized
0123456789ABCDEF\tno permissions (user in plugdev group; are your udev rules wrong?); \
see [http://developer.android.com/tools/device.html]
HT4CJ0203660\trecovery

"""

# Answers as adb does, from files beside it; a shell line runs here.
FAKE = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$*" in
  devices) cat "$here/devices" ;;
  connect*) cat "$here/after-connect" > "$here/devices"; echo connected ;;
  *features) cat "$here/features" ;;
  *forward\\ tcp:0*) echo 34567 ;;
  *forward\\ --remove*) ;;
  *shell*) [ -e "$here/gone" ] && { cat "$here/gone" >&2; exit 1; }
     shift 4; exec sh -c "$1" ;;
esac
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with an `adb` in it; `devices` there is what it lists."""
    folder = tmp_path / "adb folder"
    folder.mkdir()
    (folder / "adb").write_text(FAKE)
    (folder / "adb").chmod(0o755)
    (folder / "devices").write_text("List of devices attached\nR5CT30ABCDE\tdevice\n\n")
    (folder / "features").write_text("shell_v2\ncmd\nstat_v2\n")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def phone(tmp_path: Path, serial: str | None = None) -> AdbTransport:
    return AdbTransport("my phone", serial, str(tmp_path / "far folder"))


def test_every_state_is_read() -> None:
    assert parse_devices(STARTING) == {}
    states = parse_devices(STATES)

    assert list(states.values())[:3] == ["device", "offline", "unauthorized"]
    assert states["0123456789ABCDEF"].startswith("no permissions (user in plugdev")
    assert states["HT4CJ0203660"] == "recovery"


def test_the_only_phone_is_taken(adb: Path, tmp_path: Path) -> None:
    done = phone(tmp_path).run(["printf", "%s|", "a b", "$(id)", "'q'"])

    assert done.stdout == "a b|$(id)|'q'|\n"
    assert "-s R5CT30ABCDE shell -T sh -c" in (adb / "calls").read_text()


@pytest.mark.parametrize(
    ("serial", "words", "hint"),
    [
        ("emulator-5554", "the phone is offline", "adb -s emulator-5554 reconnect offline"),
        ("127.0.0.1:15555", "has not allowed this computer", "Allow USB debugging"),
        ("0123456789ABCDEF", "may not open the USB device", "platform-tools-common"),
        ("HT4CJ0203660", "is in state 'recovery'", None),
        ("gone", "the phone gone is not connected", "adb devices"),
    ],
)
def test_a_phone_that_cannot_be_used_is_told(
    adb: Path, tmp_path: Path, serial: str, words: str, hint: str | None
) -> None:
    (adb / "devices").write_text(STATES)

    with pytest.raises(DeviceError, match=words) as caught:
        phone(tmp_path, serial).run(["true"])

    assert caught.value.exit_code == 3
    assert hint is None or hint in str(caught.value.hint)


def test_several_phones_need_a_choice(adb: Path, tmp_path: Path) -> None:
    (adb / "devices").write_text(STATES)

    with pytest.raises(DeviceError, match="several phones are connected: R5CT30ABCDE, emul") as e:
        phone(tmp_path).run(["true"])

    assert "--serial SERIAL" in str(e.value.hint)


def test_no_phone_is_told(adb: Path, tmp_path: Path) -> None:
    (adb / "devices").write_text(STARTING)

    with pytest.raises(DeviceError, match="no phone is connected"):
        phone(tmp_path).run(["true"])


def test_a_phone_on_the_network_is_connected_again(adb: Path, tmp_path: Path) -> None:
    (adb / "devices").write_text(STARTING)
    (adb / "after-connect").write_text("List of devices attached\n192.0.2.7:5555\tdevice\n")

    assert phone(tmp_path, "192.0.2.7:5555").run(["echo", "hi"]).stdout == "hi\n"


def test_android_6_is_refused(adb: Path, tmp_path: Path) -> None:
    (adb / "features").write_text("cmd\n")

    with pytest.raises(DeviceError, match="Android 7 or newer"):
        phone(tmp_path).run(["true"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("error: device 'R5CT30ABCDE' not found\n", "is not connected"),
        ("error: device offline\n", "the phone is offline"),
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n", "allowed"),
        ("error: closed\n", "the connection broke: error: closed"),
        ("", "the connection broke"),
    ],
)
def test_a_phone_that_goes_away_is_told(adb: Path, tmp_path: Path, said: str, words: str) -> None:
    (adb / "gone").write_text(said)

    with pytest.raises(DeviceError, match=words):
        phone(tmp_path).run(["true"])


def test_push_needs_nothing_but_a_shell(adb: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(bytes(range(256)) * 20_000)
    transport = phone(tmp_path)

    transport.push(model, transport.path("models", "m $(id).gguf"))

    assert (tmp_path / "far folder/models/m $(id).gguf").read_bytes() == model.read_bytes()


def test_a_forwarded_port_is_taken_back(adb: Path, tmp_path: Path) -> None:
    with phone(tmp_path).forward(8080) as near:
        assert near == 34567

    assert (adb / "calls").read_text().endswith("-s R5CT30ABCDE forward --remove tcp:34567\n")
