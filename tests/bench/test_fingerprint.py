"""A file's hash: right, read once, read again when the file changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from plm_edge.bench import fingerprint
from plm_edge.errors import InputError


def test_hash_is_right_and_kept_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "wörld file"
    path.write_bytes(b"a" * 5_000_000)
    seen: list[tuple[int, int]] = []
    first = fingerprint.sha256(path, lambda *step: seen.append(step))
    assert first == hashlib.sha256(b"a" * 5_000_000).hexdigest()
    assert seen[-1] == (5_000_000, 5_000_000)
    seen.clear()
    assert fingerprint.sha256(path, lambda *step: seen.append(step)) == first
    assert seen == []
    path.write_bytes(b"b")
    assert fingerprint.sha256(path) == hashlib.sha256(b"b").hexdigest()


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null"])
def test_a_damaged_record_is_ignored(tmp_path: Path, own_folders: Path, text: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    fingerprint.sha256(path)
    for record in (own_folders / "cache" / "fingerprints").iterdir():
        record.write_text(text)
    assert fingerprint.sha256(path) == hashlib.sha256(b"x").hexdigest()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: cannot read"):
        fingerprint.sha256(tmp_path / "none")
