from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plm_edge.convert.json_file import parse_object, read_object, read_object_if_there
from plm_edge.errors import ConfigError, InputError, PlmEdgeError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"[1]", "holds a list"),
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"a": ' + b"[" * 100_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"\xff{}", "not UTF-8"),
    ],
)
def test_broken_json_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_object(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b" " * 100)
    with pytest.raises(InputError, match="100 bytes, expected at most 10"):
        read_object(path, limit_bytes=10)


def test_an_absent_file_is_an_empty_object(tmp_path: Path) -> None:
    assert read_object_if_there(tmp_path / "none.json") == {}


@settings(max_examples=500)
@given(
    st.binary(max_size=200)
    | st.text(alphabet='{}[]":,0123456789.eE+-truefalsn \\u').map(str.encode)
)
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    try:
        assert isinstance(parse_object(data, Path("x.json")), dict)
    except PlmEdgeError as error:
        assert "\n" not in error.message
