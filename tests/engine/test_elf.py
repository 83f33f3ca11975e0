"""Reading ELF files: small ones made on the fly, and the real engines of the cache."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge.device import profile
from plm_edge.engine import build, elf
from plm_edge.errors import InputError

GCC = "aarch64-linux-gnu-gcc"
needs_gcc = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")

SDOT, FMLA_HALF, SMMLA, NOP = 0x4E829420, 0x4E420C20, 0x4E82A420, 0xD503201F
UDOT_BY_ELEMENT = 0x6F82E020


def elf_file(
    path: Path,
    *code: int,
    machine: int = elf.AARCH64,
    interpreter: bytes = b"",
    align: int = 0x10000,
    address: int = 0x200000,
) -> Path:
    """A minimal program: a header, two or three segments, some instructions."""
    segments = 2 if interpreter else 1
    offset = 64 + 56 * segments
    words = struct.pack(f"<{len(code)}I", *code)
    header = struct.pack("<6s10xHHIQQQIHHHHHH", b"\x7fELF\x02\x01", 2, machine, 1, 0, 64, 0, 0,
                         64, 56, segments, 0, 0, 0)  # fmt: skip
    end = offset + len(words)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, address, 0, end, end, align)
    loader = struct.pack("<IIQQQQQQ", 3, 4, end, 0, 0, len(interpreter), 0, 1)
    path.write_bytes(header + load + (loader if interpreter else b"") + words + interpreter)
    return path


def test_a_plain_static_program(tmp_path: Path) -> None:
    found = elf.read(elf_file(tmp_path / "a", NOP, NOP))
    assert (found.machine, found.is_static, found.features) == (183, True, ())
    assert found.alignment_bytes == 0x10000


@pytest.mark.parametrize(
    ("word", "feature"),
    [(SDOT, "asimddp"), (UDOT_BY_ELEMENT, "asimddp"), (FMLA_HALF, "asimdhp"), (SMMLA, "i8mm")],
)
def test_an_instruction_tells_the_feature(tmp_path: Path, word: int, feature: str) -> None:
    path = elf_file(tmp_path / "a", NOP, word, NOP)
    assert elf.read(path).features == (feature,)
    elf.require_runs_on(path, elf.AARCH64, ("asimd", feature))
    with pytest.raises(InputError, match=f"a: uses {feature}, which the device may lack"):
        elf.require_runs_on(path, elf.AARCH64, ("asimd",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": 62}, "made for ELF machine 62, expected 183"),
        ({"interpreter": b"/lib/ld-linux-aarch64.so.1\0"}, "wants /lib/ld-linux-aarch64.so.1"),
        ({"align": 4096}, "aligned to 4096 bytes, pages may have 16384"),
        ({"address": 0x201000}, "aligned to 4096 bytes"),  # the segment itself is not
    ],
)
def test_what_would_not_start_is_said(tmp_path: Path, change: dict, message: str) -> None:
    path = elf_file(tmp_path / "a", NOP, **change)
    with pytest.raises(InputError, match=message):
        elf.require_runs_on(path, elf.AARCH64, ())


def test_what_is_no_elf_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(InputError, match="a: not a 64-bit little-endian ELF file"):
        elf.read(path)
    whole = elf_file(path, NOP).read_bytes()
    for size in (6, 30, 80):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="a: cut short"):
            elf.read(path)


def test_this_python_is_an_elf_file_of_its_own_kind() -> None:
    found = elf.read(Path(sys.executable).resolve())
    assert found.interpreter is None or found.interpreter.startswith("/")
    assert found.machine in (62, 183, 243)


@needs_gcc
def test_what_a_real_compiler_makes(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text(
        "#include <arm_neon.h>\n#include <stdio.h>\nint main(int n, char ** v) {\n"
        "int32x4_t s = vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(n), vdupq_n_s8(2));\n"
        "float16x8_t h = vmulq_f16(vld1q_f16((void *) v), vdupq_n_f16(n));\n"
        "vst1q_f16((void *) v, h);\n"
        'printf("%d", vaddvq_s32(s)); return 0; }\n',
        encoding="utf-8",
    )
    command = [GCC, "-O2", "-march=armv8.2-a+dotprod+fp16", source, "-o", tmp_path / "a"]
    subprocess.run([*command, "-static"], check=True)
    assert elf.read(tmp_path / "a").features == ("asimddp", "asimdhp")
    assert elf.read(tmp_path / "a").is_static
    subprocess.run(command, check=True)
    assert elf.read(tmp_path / "a").interpreter == "/lib/ld-linux-aarch64.so.1"


@pytest.mark.parametrize("variant", ["edge", "stock"])
@pytest.mark.parametrize("name", ["rpi5", "rpi4", "android-arm64", "snapdragon-8-gen-3"])
def test_the_built_engines_run_on_their_devices(
    engine_cache: Path, name: str, variant: build.Variant
) -> None:
    device = profile.find(name)
    engine = build.current_for(device, variant)
    if engine is None:
        stock = " --stock" if variant == "stock" else ""
        pytest.skip(f"not built: plm-edge engine build --device {name}{stock}")
    engine.check()
    found = [
        elf.require_runs_on(path, elf.AARCH64, device.cpu.features)
        for path in engine.bin_dir.iterdir()
    ]
    used = {feature for program in found for feature in program.features}
    assert used == set(elf.INSTRUCTIONS) & set(device.cpu.features)
