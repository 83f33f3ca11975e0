"""Built engines on disk: a folder per key with `bin/`, `lib/` and a manifest, and their handle.

engines/KEY/       finished: bin/ lib/ tests/ manifest.json
builds/SLOT/       a build folder with its lock and log, kept so that the next build is short
downloads/ sources/ ui/
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plm_edge import paths, schema, shell
from plm_edge.engine.patches import PatchSet
from plm_edge.engine.source import sha256
from plm_edge.errors import InputError, PlmEdgeError

MANIFEST_NAME = "manifest.json"
MANIFEST_LIMIT_BYTES = 1 << 22


@dataclass(frozen=True)
class Binary:
    """One installed file, as it must be."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """Where an engine comes from, down to the hash of each binary."""

    key: str
    variant: str
    toolchain: str
    package: str
    version: str
    sdist_sha256: str
    commit: str
    build_number: int
    patches: dict[str, str]
    sources: dict[str, str]
    flags: tuple[str, ...]
    compiler: tuple[str, ...]
    cpu: tuple[str, ...]
    targets: tuple[str, ...]
    has_ui: bool
    has_tests: bool
    built_at: str
    build_seconds: float
    plm_edge: str
    binaries: dict[str, Binary]


@dataclass(frozen=True)
class Engine:
    """A built engine: its folder, what it is made of, and whether this run built it."""

    folder: Path
    manifest: Manifest
    was_built_now: bool = False

    @property
    def bin_dir(self) -> Path:
        """The folder of the programs."""
        return self.folder / "bin"

    @property
    def lib_dir(self) -> Path:
        """The folder of libllama and the ggml libraries."""
        return self.folder / "lib"

    @property
    def variant(self) -> str:
        """`edge` (patched) or `stock`."""
        return self.manifest.variant

    @property
    def has_ui(self) -> bool:
        """Whether llama-server carries the web page."""
        return self.manifest.has_ui

    @property
    def cache_note(self) -> str:
        """One sentence on where this engine came from."""
        made = f"{self.manifest.key}, built {self.manifest.built_at}"
        if self.was_built_now:
            return f"{made} in {self.manifest.build_seconds:.0f} s"
        return f"{made}, from the cache"

    def tool(self, name: str) -> Path:
        """The path of a program of this engine; `InputError` that lists what there is."""
        path = self.bin_dir / name
        if not path.is_file():
            known = sorted(file.name for file in self.bin_dir.glob("*"))
            raise InputError(f"engine {self.manifest.key} has no {name!r}: {', '.join(known)}")
        return path

    def library(self) -> Path:
        """The path of libllama."""
        return self.lib_dir / "libllama.so"

    def test_programs(self) -> list[Path]:
        """The programs that test the engine from within; empty unless built with tests."""
        return sorted((self.folder / "tests").glob("*"))

    def run_environment(self) -> dict[str, str]:
        """What to add to the environment of this engine's programs."""
        others = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(self.lib_dir), others]))}

    def library_environment(self) -> dict[str, str]:
        """What makes llama-cpp-python load this engine; set it before the first import."""
        return {"LLAMA_CPP_LIB_PATH": str(self.lib_dir)}

    def check(self) -> None:
        """Compare every binary with the manifest; `InputError` on the first that differs."""
        for name, binary in self.manifest.binaries.items():
            if sha256(self.folder / name) != binary.sha256:
                raise InputError(
                    f"{self.folder / name}: not the file that was built",
                    hint=f"{shell.quote(['rm', '-r', self.folder])} && plm-edge engine build",
                )

    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(binary.size_bytes for binary in self.manifest.binaries.values())


def engines_dir() -> Path:
    """The folder of finished engines."""
    return paths.cache_dir() / "engines"


def builds_dir() -> Path:
    """The folder of build folders."""
    return paths.cache_dir() / "builds"


def load(folder: Path) -> Engine:
    """The engine in `folder`; `InputError` if it is not whole."""
    path = folder / MANIFEST_NAME
    raw = paths.read_bytes(path, limit_bytes=MANIFEST_LIMIT_BYTES)
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(table, dict):
        raise InputError(f"{path}: not a JSON object")
    engine = Engine(folder, schema.build(table, Manifest, path))
    for name, binary in engine.manifest.binaries.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != binary.size_bytes:
            raise InputError(f"{file}: missing or cut short", hint="plm-edge engine build")
    return engine


def find(key: str) -> Engine | None:
    """The finished engine of this key; None if there is none or it is damaged."""
    folder = engines_dir() / key
    try:
        return load(folder) if folder.is_dir() else None
    except PlmEdgeError:
        return None


def find_built_from(
    variant: str, patch_set: PatchSet, cpu: tuple[str, ...], toolchain: str = "host"
) -> Engine | None:
    """The newest engine of this source for this CPU, whichever version of a compiler made it."""
    hooks = {patch.name: patch.sha256 for patch in patch_set.patches}
    is_patched = variant == "edge"
    for engine in list_all()[0]:
        made = engine.manifest
        if (
            (made.variant, made.toolchain, made.cpu) == (variant, toolchain, cpu)
            and made.sdist_sha256 == patch_set.pin.sha256
            and made.patches == (hooks if is_patched else {})
            and made.sources == (dict(patch_set.sources) if is_patched else {})
        ):
            return engine
    return None


def list_all() -> tuple[list[Engine], list[str]]:
    """Every finished engine, newest first, and a line for each damaged one."""
    engines: list[Engine] = []
    broken: list[str] = []
    for folder in sorted(engines_dir().glob("[!.]*")):
        try:
            engines.append(load(folder))
        except PlmEdgeError as error:
            broken.append(error.message)
    engines.sort(key=lambda engine: engine.manifest.built_at, reverse=True)
    return engines, broken


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of the engine in `folder`."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")


def built_now(engine: Engine) -> Engine:
    """The same engine, marked as built by this run."""
    return replace(engine, was_built_now=True)
