"""Building for other machines: the flags of each profile, and what comes out is checked."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.device import profile
from plm_edge.device.profile import Profile
from plm_edge.engine import build, cache, cross, elf, host, patches, prune
from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError, MissingToolError, UsageError
from tests.engine.conftest import FILES, Mini

needs_gcc = pytest.mark.skipif(
    shutil.which(cross.GCC[0]) is None, reason=f"{cross.GCC[0]} is not installed"
)
DEVICES = [name.name for name in resources.list_all("devices") if name.name != "host"]
# Instructions of the A76, by their code, so that any assembler takes them.
FAST = 'void fast(void) { __asm__(".inst 0x4e829420"); __asm__(".inst 0x4e420c20"); }\n'


def never_native(flags: tuple[str, ...]) -> bool:
    return "-DGGML_NATIVE=OFF" in flags and not any("native" in flag for flag in flags)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("toolchain", ["zig", "gcc"])
def test_the_instruction_set_is_always_named(
    name: str, toolchain: profile.ToolchainName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross, "_gcc_identity", lambda: ("gcc 12",))
    device = profile.find(name)
    plan = cross.plan(device, "edge", patches.load(), toolchain)
    core = device.cpu.zig_cpu if toolchain == "zig" else device.cpu.march
    assert never_native(plan.flags)
    assert f"-DGGML_CPU_ARM_ARCH={core}" in plan.flags
    assert plan.toolchain.cpu == ("aarch64", core, *device.cpu.features)
    assert plan.key.startswith(f"edge-{toolchain}-aarch64-")
    assert {"llama-bench", "llama-completion", "llama-server"} <= set(plan.targets)
    assert {"llama-quantize", "llama-perplexity"} <= set(plan.targets)
    assert "llama-server" not in cross.plan(device, "stock", patches.load(), toolchain).targets


def test_zig_comes_in_scripts_that_name_no_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross.zig, "ensure", lambda pin, notify: Path("/zig"))
    plan = cross.plan(profile.find("rpi5"), "edge", patches.load())
    words = cross.prepare(plan.toolchain, tmp_path, print)
    assert words == [f"-DPLM_EDGE_TOOLS={tmp_path / 'tools'}"]
    script = (tmp_path / "tools" / "clang++").read_text(encoding="utf-8")
    assert "cortex" not in script and "native" not in script
    (tmp_path / "tools" / "zig-objects").mkdir()
    cross.finish(plan.toolchain, tmp_path)
    assert not (tmp_path / "tools" / "zig-objects").exists()


def test_equal_instructions_make_equal_keys() -> None:
    def key(name: str) -> str:
        return cross.plan(profile.find(name), "edge", patches.load()).key

    assert key("rpi5") == key("android-arm64") == key("orangepi5") == key("jetson-orin-nano")
    assert key("rpi4") == key("android-arm64-v8") == key("rpi-zero-2w")
    assert len({key("rpi5"), key("rpi4"), key("snapdragon-8-gen-3"), key("host")}) == 4


def test_another_machines_toolchain_is_refused() -> None:
    host_profile, pi = profile.find("host"), profile.find("rpi5")
    with pytest.raises(UsageError, match="toolchain zig cannot build for this machine"):
        cross.plan(host_profile, "edge", patches.load(), "zig")
    with pytest.raises(UsageError, match="native cannot build for Raspberry Pi 5: use zig, gcc"):
        cross.plan(pi, "edge", patches.load(), "native")


def test_the_ndk_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = profile.find("android-arm64")
    monkeypatch.delenv(cross.NDK_VARIABLE, raising=False)
    with pytest.raises(MissingToolError, match="ANDROID_NDK_HOME is not set"):
        cross.plan(phone, "edge", patches.load(), "ndk")
    monkeypatch.setenv(cross.NDK_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="no NDK there"):
        cross.plan(phone, "edge", patches.load(), "ndk")
    file = tmp_path / "build" / "cmake" / "android.toolchain.cmake"
    file.parent.mkdir(parents=True)
    file.write_text("set(ANDROID 1)\n", encoding="utf-8")
    (tmp_path / "source.properties").write_text("Pkg.Desc = NDK\nPkg.Revision = 27.1\n")
    plan = cross.plan(phone, "edge", patches.load(), "ndk")
    assert plan.toolchain.compiler == ("ndk Pkg.Revision = 27.1",)
    assert plan.toolchain.file == file
    assert f"-DGGML_CPU_ARM_ARCH={phone.cpu.march}" in plan.flags
    said: list[str] = []
    assert cross.prepare(plan.toolchain, tmp_path, said.append) == []
    assert "has not been tested with a real NDK" in said[0]


def test_ccache_reads_the_scripts_of_a_cross_compiler() -> None:
    plan = cross.plan(profile.find("rpi5"), "edge", patches.load())
    assert cross.ccache_environment(plan.toolchain) == {"CCACHE_COMPILERCHECK": "content"}
    own = cross.plan(profile.find("host"), "edge", patches.load())
    assert cross.ccache_environment(own.toolchain) == {}


@pytest.fixture
def plain() -> Profile:
    return profile.find("rpi4")


@needs_gcc
def test_a_plain_build_is_checked_and_cached(mini: Mini, plain: Profile) -> None:
    engine = build.ensure_for(plain, "edge", toolchain="gcc")
    assert engine.was_built_now
    assert engine.manifest.toolchain == "gcc-aarch64"
    assert cross.required_features(engine) == ("fp", "asimd")
    assert set(engine.manifest.binaries) == {f"bin/{name}" for name in
                                             (*cross.TARGETS, *cross.EDGE_TARGETS)}  # fmt: skip
    assert elf.read(engine.tool("llama-bench")).is_static
    assert not build.ensure_for(plain, "edge", toolchain="gcc").was_built_now
    assert build.current_for(plain, "edge") is None  # zig's is another one
    assert engine.manifest.key not in {item.path.name for item in prune.find()}


@needs_gcc
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
def test_the_program_runs_on_that_cpu(mini: Mini, plain: Profile) -> None:
    engine = build.ensure_for(plain, "edge", toolchain="gcc")
    command = ["qemu-aarch64", "-cpu", plain.cpu.qemu_cpu or "", engine.tool("llama-bench")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("edge ")


@needs_gcc
def test_plain_code_for_a_fast_core_is_refused(mini: Mini) -> None:
    with pytest.raises(InputError, match="no program uses asimddp, asimdhp"):
        build.ensure_for(profile.find("rpi5"), "edge", toolchain="gcc")
    assert cache.list_all() == ([], [])


@needs_gcc
def test_fast_code_is_accepted_there_and_refused_elsewhere(mini: Mini, plain: Profile) -> None:
    main = FAST + "int main(void) { fast(); return 0; }\n"
    mini.publish({**FILES, "tools/main.c": main})
    fast = build.ensure_for(profile.find("rpi5"), "edge", toolchain="gcc")
    assert elf.read(fast.tool("llama-bench")).features == ("asimddp", "asimdhp")
    with pytest.raises(InputError, match=r"llama-\w+: uses asimddp, asimdhp, which the device"):
        build.ensure_for(plain, "edge", toolchain="gcc")


@needs_gcc
def test_an_engine_without_its_compiler_still_serves(
    mini: Mini, plain: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build.ensure_for(plain, "edge", toolchain="gcc")

    def missing() -> tuple[str, ...]:
        raise MissingToolError("gcc is not installed")

    monkeypatch.setattr(cross, "_gcc_identity", missing)
    found = build.current_for(plain, "edge", toolchain="gcc")
    assert found is not None and found.folder == built.folder
    with pytest.raises(MissingToolError):
        build.ensure_for(profile.find("rpi5"), "edge", toolchain="gcc")


def test_the_host_needs_no_cross_compiler(mini: Mini) -> None:
    engine = build.ensure_for(profile.find("host"), "stock")
    assert engine.folder == build.ensure("stock").folder
    assert cross.required_features(engine) == ()


def test_a_cross_build_needs_no_host_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-cc")
    monkeypatch.setenv("CXX", "no-such-cxx")
    host.require_tools(compilers=False)
    with pytest.raises(MissingToolError):
        host.require_tools()


def test_a_broken_profile_hides_no_other(own_folders: Path) -> None:
    folder = own_folders / "config" / "devices"
    folder.mkdir(parents=True)
    (folder / "broken.toml").write_text("schema = 1\n", encoding="utf-8")
    (folder / "kitchen.toml").write_text('schema = 1\nextends = "rpi5"\n', encoding="utf-8")
    served = {name: one for one in cross.all_plans(patches.load()) for name in one.devices}
    assert "broken" not in served
    assert (
        served["kitchen"].plan.key == cross.plan(profile.find("rpi5"), "stock", patches.load()).key
    )


def test_a_feature_of_its_own_makes_another_key(plain: Profile) -> None:
    other = replace(plain, cpu=replace(plain.cpu, features=("fp", "asimd", "crc32")))
    keys = {cross.plan(one, "edge", patches.load()).key for one in (plain, other)}
    assert len(keys) == 2


@pytest.mark.slow
def test_the_real_engine_is_built_for_a_pi_and_starts(engine_cache: Path) -> None:
    device = profile.find("rpi5")
    engine: Engine = build.ensure_for(device, "edge")
    engine.check()
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-user is not installed")
    command = ["qemu-aarch64", "-cpu", "cortex-a76", engine.tool("llama-bench"), "--help"]
    assert "usage" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
