"""The pin: shipped and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge import resources
from plm_edge.engine import upstream
from plm_edge.errors import ConfigError

GOOD = {
    "package": "llama-cpp-python",
    "version": "0.3.36",
    "sdist": "x.tar.gz",
    "sha256": "a" * 64,
    "tree": "vendor/llama.cpp",
    "commit": "0123456",
}


def write(folder: Path, **changes: str) -> Path:
    lines = [f'{key} = "{value}"' for key, value in {**GOOD, **changes}.items()]
    (folder / "upstream.toml").write_text("\n".join(["schema = 1", *lines]), encoding="utf-8")
    return folder


def test_the_shipped_pin_is_that_of_the_binding() -> None:
    pin = upstream.load(resources.folder("patches"))
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    # One release carries the tree and the binding, so the ABI matches by construction.
    assert f'"{pin.requirement}"' in pyproject.read_text(encoding="utf-8")
    assert pin.sdist == f"llama_cpp_python-{pin.version}.tar.gz"


def test_a_pin_reads_back(tmp_path: Path) -> None:
    assert upstream.load(write(tmp_path)).as_dict() == {**GOOD, "build_number": 0}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "A" * 64),
        ("sha256", "a" * 63),
        ("sdist", "../x.tar.gz"),
        ("sdist", "x.zip"),
        ("commit", "HEAD"),
        ("tree", "/vendor"),
        ("tree", "vendor/../.."),
        ("colour", "blue"),
    ],
)
def test_a_broken_pin_is_refused_by_key(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"upstream.toml.*{key}"):
        upstream.load(write(tmp_path, **{key: value}))
