"""The build host: identity from recorded /proc files, missing tools by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.engine import host
from plm_edge.errors import MissingToolError

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 26
model\t\t: 2
flags\t\t: fpu sse sse2 avx2 fma f16c ibrs constant_tsc avx512f avx_vnni

processor\t: 1
flags\t\t: fpu
"""
PI5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm asimdhp asimddp
CPU part\t: 0xd0b

"""


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    return tmp_path / "cpuinfo"


def test_x86_counts_what_a_compiler_can_use(tmp_path: Path) -> None:
    machine, *rest = host.cpu_identity(write(tmp_path, X86))
    assert machine
    assert rest == [
        "AuthenticAMD/26/2", "avx2", "avx512f", "avx_vnni", "f16c", "fma", "sse", "sse2",
    ]  # fmt: skip


def test_a_microcode_flag_does_not_matter(tmp_path: Path) -> None:
    before = host.cpu_identity(write(tmp_path, X86))
    assert host.cpu_identity(write(tmp_path, X86.replace("ibrs", "ibrs stibp"))) == before
    assert host.cpu_identity(write(tmp_path, X86.replace("ibrs", "amx_int8"))) != before


def test_arm_counts_every_feature(tmp_path: Path) -> None:
    identity = host.cpu_identity(write(tmp_path, PI5))
    assert identity[1:] == ("0xd0b", "asimd", "asimddp", "asimdhp", "evtstrm", "fp")


def test_no_proc_is_no_crash(tmp_path: Path) -> None:
    assert len(host.cpu_identity(tmp_path / "absent")) == 2


def test_flags_of_the_environment_are_part_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = host.compiler_identity()
    monkeypatch.setenv("CXXFLAGS", "-O1")
    assert host.compiler_identity() == (*plain, "CXXFLAGS=-O1")


def test_every_missing_tool_is_named_with_one_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError) as caught:
        host.require_tools()
    assert caught.value.message == "not installed: cmake, git, c++, cc"
    assert caught.value.hint == "sudo apt-get install cmake git g++ gcc"


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(MissingToolError, match="no-such-compiler"):
        host.compiler_identity()


def test_ninja_comes_with_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.ninja().is_file()


def test_jobs_follow_cpus_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(host, "available_bytes", lambda: 64 << 30)
    assert host.build_jobs() == 4
    monkeypatch.setattr(host, "available_bytes", lambda: 2 * host.COMPILE_BYTES)
    assert host.build_jobs() == 2
    monkeypatch.setattr(host, "available_bytes", lambda: 1)
    assert host.build_jobs() == 1


def test_available_memory_is_believable() -> None:
    assert 1 << 20 < host.available_bytes() <= 1 << 45


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("answer", "is_ours"), [("exit 0", True), ("echo /", False), ("exit 1", False)]
)
def test_ccache_is_configured_only_if_the_user_did_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, is_ours: bool
) -> None:
    tool(tmp_path, "ccache", answer)
    monkeypatch.setenv("PATH", str(tmp_path))
    expected = {"CCACHE_BASEDIR": "/slot", "CCACHE_NOHASHDIR": "1"} if is_ours else {}
    assert host.ccache_environment(Path("/slot")) == expected


def test_ccache_is_used_and_sccache_never(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tool(tmp_path, "sccache", "exit 0")
    assert host.ccache_flag() == "-DGGML_CCACHE=OFF"
    tool(tmp_path, "ccache", "exit 0")
    assert host.ccache_flag() == "-DGGML_CCACHE=ON"


def test_no_ccache_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.ccache_environment(Path("/slot")) == {}
