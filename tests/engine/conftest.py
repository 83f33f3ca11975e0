"""A miniature of the pinned source: the same targets in a few lines of C, built in a second."""

from __future__ import annotations

import difflib
import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from plm_edge.engine import patches, plan, source
from plm_edge.engine.patches import PatchSet

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STEM = "llama_mini-1.0"
TREE = f"{STEM}/vendor/llama.cpp"

CMAKE_LISTS = """\
cmake_minimum_required(VERSION 3.14)
project("llama.cpp" C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
file(GLOB SOURCES src/*.c)
add_library(llama ${SOURCES})
set_target_properties(llama PROPERTIES VERSION 0.1.0 SOVERSION 0)
foreach(tool llama-bench llama-completion llama-imatrix llama-perplexity llama-quantize
        llama-server test-llama-archs)
    add_executable(${tool} tools/main.c)
    target_link_libraries(${tool} PRIVATE llama)
    target_compile_definitions(${tool} PRIVATE COMMIT="${LLAMA_BUILD_COMMIT}")
endforeach()
if (EXISTS ${CMAKE_SOURCE_DIR}/tools/ui/dist/index.html)
    target_compile_definitions(llama-server PRIVATE PAGE=1)
endif()
"""
FILES = {
    "CMakeLists.txt": CMAKE_LISTS,
    "src/name.c": '/* 1\n 2\n 3\n 4\n 5\n six */\nconst char * name(void) { return "stock"; }\n',
    "tools/main.c": (
        "#include <stdio.h>\nconst char * name(void);\n"
        'int main(void) { printf("%s %s\\n", name(), COMMIT); return 0; }\n'
    ),
    "tools/ui/package.json": "{}\n",
    ".git": "gitdir: ../../.git/modules/vendor/llama.cpp\n",
}
HEADER = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Sat, 21 Nov 2026 08:00:00 +0000
Subject: [PATCH] {subject}

The reason for it.

Forwarded: no
Last-Update: 2026-11-21
---
"""


def hook(name: str, old: str, new: str, *, subject: str = "change name") -> str:
    """A patch of one file, as `git format-patch -N` writes it."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    index = f"index {blob_id(old)}..{blob_id(new)} 100644\n"
    diff = f"diff --git a/{name} b/{name}\n{index}" + "".join(lines)
    return f"{HEADER.format(subject=subject)}\n{diff}"


def blob_id(text: str) -> str:
    """What git calls this content; `git am -3` looks the old file up by it."""
    content = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


Members = Mapping[str, str | tarfile.TarInfo]


def tar_gz(members: Members) -> bytes:
    """An archive of text files, and of members given whole."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, member in members.items():
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(member.encode())
            archive.addfile(info, io.BytesIO(member.encode()))
    return buffer.getvalue()


@dataclass(frozen=True)
class Mini:
    """An overlay with a patch set for the miniature source, which lies in the cache."""

    overlay: Path
    cache: Path

    @property
    def patches_dir(self) -> Path:
        return self.overlay / "patches"

    @property
    def sdist(self) -> Path:
        return self.cache / "downloads" / f"{STEM}.tar.gz"

    def publish(self, files: dict[str, str], extra: Members | None = None) -> None:
        """Put an sdist with this tree into the cache and pin it."""
        tree: Members = {f"{TREE}/{name}": text for name, text in files.items()}
        content = tar_gz({**tree, **(extra or {})})
        self.sdist.parent.mkdir(parents=True, exist_ok=True)
        self.sdist.write_bytes(content)
        self.pin(hashlib.sha256(content).hexdigest())

    def pin(self, sha256: str, version: str = "1.0") -> None:
        self.patches_dir.mkdir(parents=True, exist_ok=True)
        (self.patches_dir / "upstream.toml").write_text(
            f'schema = 1\npackage = "llama-mini"\nversion = "{version}"\n'
            f'sdist = "{STEM}.tar.gz"\nsha256 = "{sha256}"\ntree = "vendor/llama.cpp"\n'
            f'commit = "{COMMIT}"\n',
            encoding="utf-8",
        )

    def add_patch(self, name: str, text: str) -> Path:
        """Append a patch to the series."""
        path = self.patches_dir / name
        path.write_text(text, encoding="utf-8")
        with (self.patches_dir / "series").open("a", encoding="utf-8") as series:
            series.write(f"{name}\n")
        return path

    def add_source(self, name: str, text: str) -> Path:
        """Add a file to src/."""
        path = self.patches_dir / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def load(self) -> PatchSet:
        return patches.load(self.patches_dir)


EDGE_NAME = FILES["src/name.c"].replace("stock", "edge")


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """The miniature source with one patch and one source file, under a path with spaces."""
    made = Mini(tmp_path / "mein Überzug", tmp_path / "the cache äöü")
    monkeypatch.setenv("PLM_EDGE_OVERLAY", str(made.overlay))
    monkeypatch.setenv("PLM_EDGE_CACHE", str(made.cache))
    made.publish(FILES)
    made.add_patch("0001-change-name.patch", hook("src/name.c", FILES["src/name.c"], EDGE_NAME))
    made.add_source("src/plm.c", "int plm(void) { return 1; }\n")
    return made


@pytest.fixture
def unpacked(mini: Mini) -> Callable[[], Path]:
    """Unpacks the miniature source anew each time."""
    count = iter(range(100))

    def unpack() -> Path:
        pin = mini.load().pin
        target = mini.cache / f"tree-{next(count)}"
        source.unpack(source.fetch(pin), pin, target)
        return target

    return unpack


@pytest.fixture(autouse=True)
def plain_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """ccache of the miniature would fill the user's."""
    monkeypatch.setenv("CCACHE_DISABLE", "1")
    assert plan.VARIANTS == ("edge", "stock")
