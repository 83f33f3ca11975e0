"""What ssh and adb say when the wire itself fails, turned into our errors.

Each table is read from the top: the first text that occurs names the failure.
"""

from __future__ import annotations

from plm_edge.errors import DeviceError
from plm_edge.shell import quote

_SSH = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key has changed: another machine answers, or the system was set up anew",
        "if you know why: ssh-keygen -R {known}, then ssh{port} {host} once and compare the key",
    ),
    (
        "Host key verification failed",
        "its host key is not known yet",
        "ssh{port} {host}  (once, by hand; compare the key with the one the device shows)",
    ),
    (
        "Permission denied",
        "the login was refused: no key of yours is accepted there",
        "ssh-copy-id{port} {host}",
    ),
    ("Could not resolve", "there is no machine of that name", "ping {host}"),
    (
        "Connection refused",
        "no ssh server listens there",
        "on the device: sudo systemctl enable --now ssh",
    ),
    ("timed out during banner", "something listens there, but no ssh server answers", None),
    (
        "timed out",
        "no answer: it is off, asleep, or on another network",
        "ping {host}",
    ),
    ("No route to host", "there is no way to it on the network", "ping {host}"),
    ("Network is unreachable", "this machine has no network that leads there", "ip route"),
    ("remote port forwarding failed", "the port could not be forwarded", None),
    ("Bad configuration option", "ssh does not understand its configuration", None),
    ("Can't open user config file", "the ssh configuration file cannot be read", None),
)

_ADB = (
    (
        "unauthorized",
        "the phone has not allowed this computer",
        "unlock the phone and accept 'Allow USB debugging'; then: adb -s {serial} reconnect",
    ),
    ("offline", "the phone is offline", "adb -s {serial} reconnect offline, or replug the cable"),
    (
        "no permissions",
        "this user may not open the USB device",
        "sudo apt-get install android-sdk-platform-tools-common, then replug the phone",
    ),
    (
        "more than one device",
        "several phones are connected",
        "adb devices, then: plm-edge device add NAME --extends android-arm64 --serial SERIAL",
    ),
    ("no devices", "no phone is connected", "connect it and switch USB debugging on; adb devices"),
    ("not found", "the phone {serial} is not connected", "adb devices"),
)


def ssh_error(device: str, host: str, port_flag: str, stderr: str) -> DeviceError:
    """The error for what ssh said; `port_flag` is ` -p N`, or nothing."""
    known = quote([f"[{host}]:{port_flag.split()[-1]}" if port_flag else host])
    for text, meaning, hint in _SSH:
        if text in stderr:
            paste = hint and hint.format(host=quote([host]), port=port_flag, known=known)
            return DeviceError(f"{device}: {host}: {meaning}", hint=paste)
    return _broken(device, stderr)


def adb_error(device: str, serial: str, stderr: str) -> DeviceError:
    """The error for what adb said."""
    return _known_adb_error(device, serial, stderr) or _broken(device, stderr)


def adb_state_error(device: str, serial: str, state: str) -> DeviceError:
    """The error for a phone that `adb devices` lists in a state other than `device`."""
    message = f"{device}: the phone {serial} is in state {state!r}"
    return _known_adb_error(device, serial, state) or DeviceError(message)


def _known_adb_error(device: str, serial: str, said: str) -> DeviceError | None:
    for text, meaning, hint in _ADB:
        if text in said:
            message = f"{device}: {meaning.format(serial=serial)}"
            return DeviceError(message, hint=hint.format(serial=quote([serial])))
    return None


def _broken(device: str, stderr: str) -> DeviceError:
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    why = f": {lines[-1].strip()}" if lines else ""
    return DeviceError(
        f"{device}: the connection broke{why}",
        hint="run the same command again; a push goes on where it stopped",
    )
