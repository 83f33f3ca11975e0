"""The pin: which release of which package carries the llama.cpp tree that is built."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plm_edge import schema

PIN_NAME = "upstream.toml"


@dataclass(frozen=True)
class Pin:
    """`patches/upstream.toml`: a source distribution by hash, and the tree's place within it."""

    package: str
    version: str
    sdist: str
    sha256: str
    tree: str
    commit: str
    build_number: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 = {self.sha256!r}, expected 64 lower-case hex digits")
        if not re.fullmatch(r"[A-Za-z0-9._+-]+\.tar\.gz", self.sdist):
            raise ValueError(f"sdist = {self.sdist!r}, expected the name of a .tar.gz file")
        if not re.fullmatch(r"[0-9a-f]{7,40}", self.commit):
            raise ValueError(f"commit = {self.commit!r}, expected a commit hash")
        if self.tree.startswith("/") or ".." in self.tree.split("/"):
            raise ValueError(f"tree = {self.tree!r}, expected a path inside the sdist")

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    def as_dict(self) -> dict[str, Any]:
        """The pin as plain values, for manifests and keys."""
        return asdict(self)


def load(patches_dir: Path) -> Pin:
    """The pin of a patches folder."""
    return schema.load(patches_dir / PIN_NAME, Pin)
