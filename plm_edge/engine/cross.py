"""Plans for other machines: a device's profile and a toolchain become flags, never guessed ones.

llama.cpp adds no instruction set by itself when it is not built for this machine, and so loses
dot products and repacking in silence; here every build names one, and the binaries are checked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from plm_edge import resources, shell
from plm_edge.device import profile as profiles
from plm_edge.device.profile import Profile, ToolchainName
from plm_edge.engine import cache, elf, zig
from plm_edge.engine.cache import Engine
from plm_edge.engine.patches import PatchSet
from plm_edge.engine.plan import COMMON_FLAGS, VARIANTS, BuildPlan, Toolchain, Variant, host_plan
from plm_edge.engine.source import Notify
from plm_edge.errors import InputError, MissingToolError, PlmEdgeError, UsageError

TOOLCHAINS: tuple[ToolchainName, ...] = get_args(ToolchainName)
TARGETS = ("llama-bench", "llama-completion", "llama-perplexity", "llama-quantize")
EDGE_TARGETS = ("llama-server",)
GCC = ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++")
NDK_VARIABLE = "ANDROID_NDK_HOME"
STATIC_FLAGS = (
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=OFF",
    # zig and the NDK have no static OpenMP; ggml's own threads do the same work.
    "-DGGML_OPENMP=OFF",
    "-DCMAKE_EXE_LINKER_FLAGS=-static -s",
)


def plan(
    device: Profile, variant: Variant, patch_set: PatchSet, toolchain: ToolchainName | None = None
) -> BuildPlan:
    """The engine for a device, with its profile's toolchain or another one.

    Profiles that ask for the same instructions get the same plan, and so the same binaries.
    """
    name = toolchain or device.build.toolchain
    if (name == "native") != (device.architecture == "native"):
        known = ", ".join(TOOLCHAINS[1:]) if device.architecture != "native" else "native"
        raise UsageError(f"toolchain {name} cannot build for {device.description}: use {known}")
    if name == "native":
        return host_plan(variant, patch_set)
    targets = (*TARGETS, *(EDGE_TARGETS if variant == "edge" else ()))
    flags = (*COMMON_FLAGS, *STATIC_FLAGS, *_arch_flags(name, device))
    return BuildPlan(variant, patch_set, flags, targets, _toolchain(name, device))


def _arch_flags(name: ToolchainName, device: Profile) -> tuple[str, ...]:
    core = device.cpu.zig_cpu if name == "zig" else device.cpu.march
    march = f"-DGGML_CPU_ARM_ARCH={core}"
    if name in ("zig", "gcc"):
        return (march,)
    # 28 is Android 9, the oldest whose libc has what llama.cpp calls.
    return (march, "-DANDROID_ABI=arm64-v8a", "-DANDROID_PLATFORM=28", "-DANDROID_STL=c++_static")


def label(device: Profile, toolchain: ToolchainName | None = None) -> str:
    """The toolchain's name in keys and manifests."""
    return f"{toolchain or device.build.toolchain}-{device.architecture}"


def cpu_identity(device: Profile, toolchain: ToolchainName | None = None) -> tuple[str, ...]:
    """Machine, CPU in the toolchain's words, and what the kernel there must list."""
    is_zig = (toolchain or device.build.toolchain) == "zig"
    core = device.cpu.zig_cpu if is_zig else device.cpu.march
    return (device.architecture, core or "", *device.cpu.features)


def _toolchain(name: ToolchainName, device: Profile) -> Toolchain:
    own = label(device, name), cpu_identity(device, name)
    if name == "zig":
        return Toolchain(own[0], (zig.pin().name,), own[1], zig.toolchain_file("zig.cmake"))
    if name == "gcc":
        return Toolchain(own[0], _gcc_identity(), own[1], zig.toolchain_file("gcc.cmake"))
    file, revision = _ndk()
    return Toolchain(own[0], (revision,), own[1], file)


def _gcc_identity() -> tuple[str, ...]:
    try:
        return tuple(shell.capture([name, "--version"]).stdout.splitlines()[0] for name in GCC)
    except MissingToolError:
        raise MissingToolError(
            f"{GCC[1]} is not installed",
            hint="sudo apt-get install crossbuild-essential-arm64, or --toolchain zig",
        ) from None


def _ndk() -> tuple[Path, str]:
    """The NDK's own cmake file and release; nobody could try this one here."""
    home = os.environ.get(NDK_VARIABLE)
    if not home:
        raise MissingToolError(f"{NDK_VARIABLE} is not set", hint=f"export {NDK_VARIABLE}=…")
    file = Path(home) / "build" / "cmake" / "android.toolchain.cmake"
    properties = Path(home) / "source.properties"
    if not (file.is_file() and properties.is_file()):
        raise InputError(f"{NDK_VARIABLE}={home}: no NDK there", hint=shell.quote(["ls", home]))
    lines = properties.read_text(encoding="utf-8", errors="replace").splitlines()
    return file, " ".join(["ndk", *(line for line in lines if line.startswith("Pkg.Revision"))])


def is_cross(toolchain: Toolchain) -> bool:
    """Whether the toolchain's programs are meant for another machine."""
    return toolchain.name.partition("-")[0] in TOOLCHAINS[1:]


def prepare(toolchain: Toolchain, slot: Path, notify: Notify) -> list[str]:
    """Have the compiler ready; returns what cmake must be told besides the plan's flags."""
    if toolchain.name.startswith("ndk-"):
        notify("the NDK toolchain has not been tested with a real NDK; zig is the tested one")
    if not toolchain.name.startswith("zig-"):
        return []
    tools = slot / "tools"
    zig.write_tools(zig.ensure(zig.pin(), notify), tools)
    return [f"-DPLM_EDGE_TOOLS={tools}"]


def finish(toolchain: Toolchain, slot: Path) -> None:
    """Give back the disk that only compiling needed."""
    if toolchain.name.startswith("zig-"):
        zig.forget_objects(slot / "tools")


def ccache_environment(toolchain: Toolchain) -> dict[str, str]:
    """Has ccache look into the compiler's script: a build folder's own, but the same in all."""
    return {"CCACHE_COMPILERCHECK": "content"} if is_cross(toolchain) else {}


def check_programs(toolchain: Toolchain, programs: Sequence[Path]) -> None:
    """Raise `InputError` unless every program runs on the toolchain's CPU, and they use it.

    A compiler that ignored its flags makes plain code, which runs, at half the speed.
    """
    wanted = toolchain.cpu[2:]
    found: set[str] = set()
    for program in programs:
        found |= set(elf.require_runs_on(program, elf.AARCH64, wanted).features)
    unused = [name for name in elf.INSTRUCTIONS if name in wanted and name not in found]
    if unused:
        raise InputError(f"{programs[0].parent}: no program uses {', '.join(unused)}")


@dataclass(frozen=True)
class Served:
    """A plan, and the device profiles it is for."""

    plan: BuildPlan
    devices: tuple[str, ...]


def all_plans(patch_set: PatchSet) -> list[Served]:
    """Every plan that some profile leads to, with its own toolchain or another one in use.

    A profile that does not load or whose compiler is missing cannot be built for, and has none.
    """
    served: dict[str, Served] = {}
    in_use = {engine.manifest.toolchain.partition("-")[0] for engine in cache.list_all()[0]}
    others: list[ToolchainName | None] = [name for name in TOOLCHAINS if name in in_use]
    for resource in resources.list_all("devices"):
        for variant in VARIANTS:
            for toolchain in (None, *others):
                with suppress(PlmEdgeError):
                    one = plan(profiles.load(resource), variant, patch_set, toolchain)
                    known = served.setdefault(one.key, Served(one, ()))
                    names = dict.fromkeys((*known.devices, resource.name))
                    served[one.key] = Served(one, tuple(names))
    return list(served.values())


def required_features(engine: Engine) -> tuple[str, ...]:
    """What /proc/cpuinfo of a device must list for a cross-built engine to run there."""
    return () if engine.manifest.toolchain == "host" else engine.manifest.cpu[2:]
