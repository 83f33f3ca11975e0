"""The results file survives crashes and two writers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge import results
from plm_edge.errors import InputError


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "r.jsonl"
    results.append(path, {"a": 1})
    results.append(path, {"b": "ü"})
    assert results.read(path) == results.ResultsRead([{"a": 1}, {"b": "ü"}], [])


def test_half_a_last_line_is_kept_skipped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    read = results.read(path)
    assert read.rows == [{"a": 1}]
    assert read.skipped == [f"{path}:2: not a whole JSON line, skipped"]
    results.append(path, {"c": 3})
    assert results.read(path).rows == [{"a": 1}, {"c": 3}]
    assert b'{"b": ' in path.read_bytes()


def test_lines_that_are_no_objects_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"[1]\n\n\xff\xfe\n")
    assert len(results.read(path).skipped) == 2


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.append(tmp_path / "r.jsonl", {"a": float("nan")})


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from plm_edge import results\n"
        "[results.append(Path(sys.argv[1]), {'who': sys.argv[2], 'n': n}) for n in range(50)]"
    )
    path = tmp_path / "r.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), w]) for w in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    rows = results.read(path).rows
    assert {(row["who"], row["n"]) for row in rows} == {(w, n) for w in "ab" for n in range(50)}


def test_unreadable_and_unwritable_files_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        results.read(tmp_path / "none")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write"):
        results.append(tmp_path / "file" / "r.jsonl", {})
