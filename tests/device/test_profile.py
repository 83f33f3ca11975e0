"""Every shipped profile loads and is complete; broken ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.device import profile
from plm_edge.errors import ConfigError

SHIPPED = (
    "android-arm64",
    "android-arm64-v8",
    "host",
    "jetson-orin-nano",
    "orangepi5",
    "rpi-zero-2w",
    "rpi4",
    "rpi5",
    "snapdragon-8-gen-3",
)
# What a march asks of the core, as the kernel names it.
HWCAPS = {"dotprod": "asimddp", "fp16": "asimdhp", "i8mm": "i8mm"}


def write(folder: Path, name: str, text: str) -> None:
    target = folder / "config" / "devices" / f"{name}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"schema = 1\n{text}", encoding="utf-8")


def test_these_profiles_are_shipped() -> None:
    assert [resource.name for resource in resources.list_all("devices")] == list(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_loads(name: str) -> None:
    found = profile.find(name)
    assert found.description
    assert (found.architecture == "native") == (name == "host")


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "host"])
def test_the_kernel_must_list_every_extension_the_build_uses(name: str) -> None:
    cpu = profile.find(name).cpu
    extensions = (cpu.march or "").split("+")[1:]
    assert {HWCAPS[extension] for extension in extensions} <= set(cpu.features)
    # asimdhp is of no use without the scalar half, and every dotprod core has LSE atomics.
    assert ("asimdhp" in cpu.features) == ("fphp" in cpu.features)
    assert ("v8.2" in (cpu.march or "")) == ("atomics" in cpu.features)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "host"])
def test_a_shipped_profile_can_be_extended_by_a_user(own_folders: Path, name: str) -> None:
    is_phone = profile.find(name).transport.kind == "adb"
    way = 'serial = "R58M1"' if is_phone else 'host = "192.0.2.7"\nuser = "pi"\nport = 2222'
    write(own_folders, "mine", f'extends = "{name}"\n[transport]\n{way}\n')
    mine, parent = profile.find("mine"), profile.find(name)
    assert (mine.cpu, mine.build, mine.power) == (parent.cpu, parent.build, parent.power)
    assert mine.transport.folder == parent.transport.folder
    assert (mine.transport.serial or mine.transport.host) in ("R58M1", "192.0.2.7")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('[build]\ntoolchain = "magic"', r"mine\.toml: build\.toolchain = 'magic'"),
        ('[build]\ntoolchain = "native"', r"mine\.toml: architecture = 'aarch64'"),
        ("[cpu]\nbig_cores = 5", r"mine\.toml: \[cpu\] big_cores = 5"),
        ("[cpu]\ncores = 0", r"mine\.toml: \[cpu\] cores = "),
        ('[cpu]\nmarch = "native"', r"mine\.toml: \[cpu\] march = 'native'"),
        ('[cpu]\nzig_cpu = "x; rm"', r"mine\.toml: \[cpu\] zig_cpu = "),
        ('[cpu]\nfeatures = ["a b"]', r"mine\.toml: \[cpu\] features = 'a b'"),
        ("[cpu]\nfeatures = []", r"mine\.toml: cpu\.features = 'absent'"),
        ('[transport]\nhost = "-oProxyCommand=x"', r"mine\.toml: \[transport\] host = "),
        ('[transport]\nhost = "pi@kitchen"', r"mine\.toml: \[transport\] host = "),
        ('[transport]\nserial = "a b"', r"mine\.toml: \[transport\] serial = "),
        ("[transport]\nport = 70000", r"mine\.toml: \[transport\] port = 70000"),
        ('[transport]\nfolder = "a\\nb"', r"mine\.toml: \[transport\] folder = "),
        ("[bandwidth]\ntheoretical_gigabytes_per_second = 0", r"theoretical_gigabytes_per_second"),
        ('[bandwidth]\nmeasured_gigabytes_per_second = 9\nmeasured_sauce = "x"', "measured_sauce"),
        ("memory_bytes = 0", r"mine\.toml: memory_bytes = 0"),
    ],
)
def test_what_is_wrong_is_named(own_folders: Path, table: str, message: str) -> None:
    write(own_folders, "mine", f'extends = "rpi5"\n{table}\n')
    with pytest.raises(ConfigError, match=message):
        profile.find("mine")


def test_a_rate_without_a_source_is_refused(own_folders: Path) -> None:
    rate = "[bandwidth]\nmeasured_gigabytes_per_second = 9.0\n"
    write(own_folders, "mine", f'extends = "android-arm64"\n{rate}')
    with pytest.raises(ConfigError, match=r"\[bandwidth\] measured_source"):
        profile.find("mine")


def test_a_folder_may_hold_blanks_and_quotes(own_folders: Path) -> None:
    write(
        own_folders, "mine", """extends = "rpi5"\n[transport]\nfolder = "it's $HOME/plm edge"\n"""
    )
    assert profile.find("mine").transport.folder == "it's $HOME/plm edge"
