"""The commands of a documentation page, so that the page and its test cannot drift apart."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.devices.user import ROOT

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def path_of(name: str) -> Path:
    """The page about a family of devices."""
    return ROOT / "docs" / "devices" / f"{name}.md"


def commands(page: Path) -> list[list[str]]:
    """The words after `plm-edge` of every such line in the page's shell blocks, in order."""
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("plm-edge ")]
