"""TOML to dataclass: every way a file can be wrong is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plm_edge import schema
from plm_edge.errors import ConfigError


@dataclass(frozen=True)
class Part:
    size_bytes: int
    ratio: float = 1.0


@dataclass(frozen=True)
class Whole:
    name: str
    mode: Literal["fast", "exact"]
    parts: tuple[Part, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    note: str | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name is empty")


GOOD = """schema = 1
name = "a"
mode = "fast"
table = { x = 1 }
[[parts]]
size_bytes = 3
ratio = 2
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "file.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_becomes_a_dataclass(tmp_path: Path) -> None:
    whole = schema.load(write(tmp_path, GOOD), Whole)
    assert whole == Whole("a", "fast", (Part(3, 2.0),), {"x": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("schema = 1", "schema = 2"), "schema = 2, expected 1"),
        (("schema = 1", "schema = true"), "schema = True, expected 1"),
        (("schema = 1\n", ""), "schema = None"),
        (('name = "a"', "name = 3"), "name = 3, expected a value of type str"),
        (('name = "a"', 'name = ""'), "name is empty"),
        (('name = "a"\n', ""), "key 'name' is missing"),
        (('"fast"', '"slow"'), "mode = 'slow', expected one of 'fast', 'exact'"),
        (("size_bytes = 3", "size_bytes = 3.5"), "parts[0].size_bytes = 3.5"),
        (("size_bytes = 3", "size_bytes = true"), "parts[0].size_bytes = True"),
        (("size_bytes", "size_byte"), "[parts[0]] unknown key 'size_byte'"),
        (("{ x = 1 }", "{ x = 'y' }"), "table.x = 'y'"),
        (("{ x = 1 }", "3"), "table = 3, expected a table"),
        (('mode = "fast"', 'mode = "fast'), "not valid TOML"),
        (('mode = "fast"', 'mode = "fast"\nparts = 4'), "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ConfigError) as caught:
        schema.load(path, Whole)
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_an_unknown_key_gets_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(write(tmp_path, GOOD.replace("mode", "mod")), Whole)
    assert caught.value.hint == "did you mean 'mode'?"


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_bytes(b"schema = 1\nname = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        schema.load(path, Whole)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "f.toml"
    path.write_bytes(("schema = 1\n" + text).encode("utf-8", "surrogatepass"))
    try:
        schema.load(path, Whole)
    except ConfigError:
        return


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(
    table=st.dictionaries(
        st.sampled_from(["name", "mode", "parts", "table", "note", "enabled", "else"]), VALUES
    )
)
def test_any_table_is_built_or_refused(table: dict[str, Any]) -> None:
    try:
        schema.build(table, Whole, Path("x.toml"))
    except ConfigError:
        return
