"""What to build and with what: pure data, hashed into the key an engine is cached under."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from plm_edge.engine import host
from plm_edge.engine.patches import PatchSet

Variant = Literal["edge", "stock"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

LIBRARY_TARGETS = ("llama",)
TOOL_TARGETS = (
    "llama-bench",
    "llama-completion",
    "llama-imatrix",
    "llama-perplexity",
    "llama-quantize",
)
# A fifth of the compile time with its multi-modal part; nobody serves from the stock engine.
EDGE_TARGETS = ("llama-server",)
# Upstream's check of every architecture; ours are the test-plm-*.cpp among the patch set's sources.
UPSTREAM_TEST_TARGETS = ("test-llama-archs",)

COMMON_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_TESTS=ON",  # configures them; they are built when asked for
    "-DLLAMA_BUILD_UI=OFF",  # cmake would run npm; `ui` does, and caches its result
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)
# Tools and libraries find each other wherever the folder is moved. The old RPATH, unlike RUNPATH,
# also wins over a LD_LIBRARY_PATH that holds somebody else's libllama.
SHARED_FLAGS = (
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN;$ORIGIN/../lib",
    "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags",
)
NATIVE_FLAGS = ("-DGGML_NATIVE=ON",)


@dataclass(frozen=True)
class Toolchain:
    """Who compiles and for which CPU: `host`, or a device's with a cmake toolchain file."""

    name: str
    compiler: tuple[str, ...]
    cpu: tuple[str, ...]
    file: Path | None = None


@dataclass(frozen=True)
class BuildPlan:
    """One engine to build. `patch_set` is applied only for the `edge` variant."""

    variant: Variant
    patch_set: PatchSet
    flags: tuple[str, ...]
    targets: tuple[str, ...]
    toolchain: Toolchain

    @property
    def key(self) -> str:
        """The engine's name in the cache: equal keys, equal binaries."""
        return f"{self.variant}-{self.toolchain.name}-{_hash(self.identity())}"

    @property
    def slot(self) -> str:
        """The build folder's name: kept across patch edits, so that ninja redoes only those."""
        shared = {**self._build_identity(), "pin": self.patch_set.pin.as_dict()}
        return f"{self.variant}-{self.toolchain.name}-{_hash(shared)}"

    @property
    def test_targets(self) -> tuple[str, ...]:
        """Programs that check this engine from within."""
        own = (Path(name) for name, _ in self.sources if name.startswith("tests/test-plm"))
        return (*UPSTREAM_TEST_TARGETS, *(path.stem for path in own if path.suffix == ".cpp"))

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """(path, sha256) of our own files that go into this engine."""
        return self.patch_set.sources if self.variant == "edge" else ()

    def identity(self) -> dict[str, Any]:
        """Everything the binaries depend on."""
        source = self.patch_set.identity()
        if self.variant == "stock":
            source = {"pin": source["pin"]}
        return {**self._build_identity(), "source": source, "targets": list(self.targets)}

    def _build_identity(self) -> dict[str, Any]:
        file = self.toolchain.file
        return {
            "variant": self.variant,
            "flags": list(self.flags),
            "compiler": list(self.toolchain.compiler),
            "cpu": list(self.toolchain.cpu),
            "toolchain": file.read_text(encoding="utf-8") if file else None,
        }


def host_plan(variant: Variant, patch_set: PatchSet) -> BuildPlan:
    """The engine for this machine: shared libraries, every instruction its CPU has."""
    toolchain = Toolchain("host", host.compiler_identity(), host.cpu_identity())
    flags = (*COMMON_FLAGS, *SHARED_FLAGS, *NATIVE_FLAGS)
    targets = (*LIBRARY_TARGETS, *TOOL_TARGETS, *(EDGE_TARGETS if variant == "edge" else ()))
    return BuildPlan(variant, patch_set, flags, targets, toolchain)


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
