"""Text for plm-nano: what every Python installation carries, split by module.

Standard library sources and the language reference's pydoc topics (PSF licence). A module's share
(train, validation, test) follows from its name's hash, so that no module is in two of them and a
rerun on the same Python gives the same split. Test modules (`test`, `idlelib.idle_test`, …) are
left out altogether: their text is mostly data.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Share = Literal["train", "validation", "test"]
SHARES: tuple[Share, ...] = ("train", "validation", "test")

LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "__pycache__", "turtledemo"})
# Generated tables: no language to learn, and a third of the bytes.
TABLES = frozenset({"encodings", "pydoc_data", "topics"})
LONG_SOURCE = 200  # characters


@dataclass(frozen=True)
class Module:
    """One source file of the standard library."""

    name: str
    text: str

    @property
    def share(self) -> Share:
        """Which split the module belongs to: 90 % train, 5 % validation, 5 % test.

        A package stays together, since its modules quote each other.
        """
        top = self.name.split(".")[0].lstrip("_")
        number = int.from_bytes(hashlib.sha256(top.encode()).digest()[:8], "big") % 20
        return {0: "validation", 1: "test"}.get(number, "train")  # type: ignore[return-value]


@dataclass(frozen=True)
class Definition:
    """A documented function, method or class of a module."""

    module: str
    name: str
    signature: str
    doc: str
    source: str

    @property
    def first_line(self) -> str:
        """The docstring's first paragraph on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())


def standard_library() -> list[Module]:
    """Every module of this Python's standard library that is written in Python, by name."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if LEFT_OUT & set(parts) or TABLES & set(parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a few sources keep another encoding on purpose; they are not prose
        found.append(Module(".".join(p for p in parts if p != "__init__"), text))
    return [module for module in found if module.name and module.text.strip()]


def split(modules: list[Module]) -> dict[Share, list[Module]]:
    """The modules by share; a held-out module that repeats a training one's code goes to train.

    So that what is measured on held-out modules was never seen, on any version of Python.
    """
    shares: dict[Share, list[Module]] = {share: [] for share in SHARES}
    for module in modules:
        shares[module.share].append(module)
    seen = {source for module in shares["train"] for source in _long_sources(module)}
    for share in SHARES[1:]:
        repeats = [module for module in shares[share] if seen & _long_sources(module)]
        shares["train"] += repeats
        shares[share] = [module for module in shares[share] if module not in repeats]
    return shares


def _long_sources(module: Module) -> set[str]:
    """Definitions long enough not to be alike by chance, and the module itself."""
    long = {item.source for item in definitions(module) if len(item.source) > LONG_SOURCE}
    return {*long, module.text}


def topics() -> list[tuple[str, str]]:
    """The language reference as pydoc carries it: (topic, text), all of it training text."""
    from pydoc_data.topics import topics as table  # type: ignore[import-not-found,unused-ignore]

    return sorted(table.items())


def definitions(module: Module) -> list[Definition]:
    """Documented public definitions of a module, in order of appearance."""
    try:
        tree = ast.parse(module.text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    return list(_walk(tree, module.name, module.text.splitlines(), ""))


def _walk(node: ast.AST, module: str, lines: list[str], prefix: str) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        doc = ast.get_docstring(child)
        name = f"{prefix}{child.name}"
        if doc and not child.name.startswith("_"):
            # ast.get_source_segment splits the whole file again for every definition
            source = textwrap.dedent("\n".join(lines[child.lineno - 1 : child.end_lineno]))
            yield Definition(module, name, _signature(child), doc, source)
        if isinstance(child, ast.ClassDef):
            yield from _walk(child, module, lines, f"{name}.")


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    return f"def {node.name}({ast.unparse(node.args)})"


def help_text(module: Module) -> str:
    """The module's documentation as `help()` would show it, without importing it."""
    parts = [f"Help on module {module.name}:\n"]
    try:
        doc = ast.get_docstring(ast.parse(module.text))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    if doc:
        parts.append(doc + "\n")
    for item in definitions(module):
        parts.append(f"{item.signature}\n{textwrap.indent(item.doc, '    ')}\n")
    return "\n".join(parts) if len(parts) > 1 else ""


def documents(modules: list[Module], share: Share) -> dict[str, list[str]]:
    """Texts of a share's modules: `code` (whole files), `help` (documentation), `topics`."""
    return {
        "code": [module.text for module in modules],
        "help": [text for module in modules if (text := help_text(module))],
        "topics": [text for _, text in topics()] if share == "train" else [],
    }
