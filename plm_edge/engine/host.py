"""This machine as a build host: its compiler, its instruction set, how many jobs it stands."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
from pathlib import Path

from plm_edge import shell
from plm_edge.errors import MissingToolError

# One compile of the largest unit peaks at 705 MB (gcc 12, 2026-11).
COMPILE_BYTES = 750_000_000

# What -march=native can put into a binary, named as in /proc/cpuinfo. The other flags there move
# with kernel and microcode, and would rebuild the engine for nothing.
_ISA_FLAG = re.compile(
    r"(ss?se|sse|avx|fma|f16c|bmi|amx|popcnt|abm|movbe|aes|vaes|v?pclmul|sha_ni|gfni|adx|xop|tbm)"
)
# Linker and compiler flags cmake takes from the environment at its first run.
ENVIRONMENT_FLAGS = ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")


def require_tools(*, compilers: bool = True) -> None:
    """Raise `MissingToolError` that names every missing tool and the one command for all."""
    wanted = {"cmake": "cmake", "git": "git"}
    if compilers:
        wanted |= {compiler()[0]: "c++", c_compiler()[0]: "cc"}
    missing = [name for tool, name in wanted.items() if shutil.which(tool) is None]
    if missing:
        packages = [shell.DEBIAN_PACKAGES.get(name, name) for name in missing]
        raise MissingToolError(
            f"not installed: {', '.join(missing)}",
            hint=f"sudo apt-get install {' '.join(packages)}",
        )
    ninja()


def compiler() -> list[str]:
    """The C++ compiler cmake will take, as words."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def c_compiler() -> list[str]:
    """The C compiler cmake will take, as words."""
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def compiler_identity() -> tuple[str, ...]:
    """Version lines of both compilers and the flags the environment adds."""
    versions = [_version(c_compiler()), _version(compiler())]
    flags = [f"{name}={os.environ[name]}" for name in ENVIRONMENT_FLAGS if os.environ.get(name)]
    return (*versions, *flags)


def _version(words: list[str]) -> str:
    if shutil.which(words[0]) is None:
        raise shell.missing_tool(words[0])
    lines = shell.capture([*words, "--version"]).stdout.splitlines()
    return lines[0] if lines else words[0]


def cpu_identity(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The machine, its CPU model and every instruction set extension a native build may use."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    first = text.split("\n\n")[0]
    fields = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in first.splitlines())
    }
    model = [fields.get(name, "") for name in ("vendor_id", "cpu family", "model", "CPU part")]
    if "Features" in fields:  # ARM: every one of them counts
        features = sorted(fields["Features"].split())
    else:
        features = sorted(flag for flag in fields.get("flags", "").split() if _ISA_FLAG.match(flag))
    return (platform.machine(), "/".join(part for part in model if part), *features)


def ninja() -> Path:
    """ninja from PATH, else the one that is installed beside this package."""
    if found := shutil.which("ninja"):
        return Path(found)
    try:
        import ninja as package
    except ImportError:
        raise shell.missing_tool("ninja") from None
    return Path(package.BIN_DIR) / "ninja"


def build_jobs() -> int:
    """One job per usable CPU, fewer where memory would run out."""
    cpus = len(os.sched_getaffinity(0))
    return max(1, min(cpus, available_bytes() // COMPILE_BYTES))


def available_bytes() -> int:
    """Memory a new program can have without swapping; plenty where the kernel does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return 1 << 40
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 1 << 40


def ccache_flag() -> str:
    """Has the tree use ccache; never sccache, whose server would inherit the lock and stay."""
    return f"-DGGML_CCACHE={'ON' if shutil.which('ccache') else 'OFF'}"


def ccache_environment(work: Path) -> dict[str, str]:
    """Lets ccache share results between build folders, unless the user configured that already."""
    if shutil.which("ccache") is None:
        return {}
    done = shell.capture(["ccache", "--get-config", "base_dir"], check=False)
    if done.exit_status != 0 or done.stdout.strip():
        return {}
    return {"CCACHE_BASEDIR": str(work), "CCACHE_NOHASHDIR": "1"}
