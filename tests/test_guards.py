"""Short guards on the project's own shape: layers, mirrors, data folders, names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "plm_edge"

CORE = {"errors", "console", "paths", "resources", "schema", "shell", "results", "shape"}
CORE |= {"gguf_header", "__init__"}
# Who may import whom; domains never reach sideways, commands compose them.
ALLOWED = {
    "device": CORE,
    "engine": CORE | {"device"},
    "convert": CORE,
    "model": CORE,
    "quantize": CORE | {"engine", "device"},
    "bench": CORE | {"engine", "device"},
    "eval": CORE | {"engine", "device"},
    "chat": CORE | {"engine", "device"},
    "advise": CORE | {"device"},
    "report": CORE | {"bench", "eval"},
    "tune": CORE | {"engine", "device", "model"},
}
# Tests of the whole, or of several parts at once: they mirror no module.
CROSSCUT = ("parity", "test_guards.py", "wheel", "docs", "fuzz", "devices")
DATA_FOLDERS = ("converters", "quant", "devices", "patches", "training", "tasks")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("plm_edge"):
            words = (node.module or "").split(".")
            parts |= {words[1]} if len(words) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            parts |= {words[1] for words in names if words[0] == "plm_edge" and len(words) > 1}
    return parts


def test_layers_hold() -> None:
    wrong = []
    for path in modules():
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        allowed = CORE if part in CORE else ALLOWED.get(part)
        if allowed is None:
            continue  # cli, __main__ and commands compose everything
        extra = imported_parts(path) - allowed - {part, "__version__"}
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(extra)]
    assert wrong == []


def test_every_part_is_known_to_the_layers() -> None:
    parts = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in modules()}
    assert parts - CORE - set(ALLOWED) - {"cli", "__main__", "commands"} == set()


@pytest.mark.parametrize("folder", DATA_FOLDERS)
def test_data_folders_hold_no_python_and_have_a_readme(folder: str) -> None:
    assert list((ROOT / folder).rglob("*.py")) == []
    assert (ROOT / folder / "README.md").is_file()


def test_tests_mirror_the_code() -> None:
    wrong = []
    for test in (ROOT / "tests").rglob("test_*.py"):
        where = test.relative_to(ROOT / "tests")
        code = PACKAGE / where.parent / where.name.removeprefix("test_")
        crosscut = where.parts[0] in CROSSCUT
        package = code.with_suffix("")
        if not (crosscut or code.is_file() or package.is_dir()):
            wrong.append(str(where))
    assert wrong == []


def test_no_machine_path_or_unfinished_work_is_shipped() -> None:
    marks = re.compile("/wo" + r"rk/|/ro" + r"ot/|TO" + r"DO|FIX" + r"ME|NotImplemented" + "Error")
    tracked = [p for p in modules() if marks.search(p.read_text(encoding="utf-8"))]
    assert tracked == []
