"""Files appear whole or not at all, and a refusal says why."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge import paths
from plm_edge.errors import InputError, SpaceError


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PLM_EDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_dir() == tmp_path / "plm-edge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_dir() == tmp_path / ".cache" / "plm-edge"


def test_atomic_path_renames_on_success(tmp_path: Path) -> None:
    target = tmp_path / "a folder" / "ünï code.txt"
    with paths.atomic_path(target) as temporary:
        temporary.write_text("whole", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "whole"
    assert os.listdir(target.parent) == [target.name]


def test_atomic_path_leaves_nothing_on_failure(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        paths.atomic_path(tmp_path / "x") as temporary,
    ):
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from plm_edge.paths import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    target = tmp_path / "out.bin"
    done = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()


def test_a_full_disk_is_a_space_error(tmp_path: Path) -> None:
    with (
        pytest.raises(SpaceError, match="the disk is full"),
        paths.atomic_path(tmp_path / "x"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert os.listdir(tmp_path) == []


def test_a_target_that_is_a_folder_is_an_input_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="cannot write"),
        paths.atomic_path(tmp_path / "file" / "below") as temporary,
    ):
        (tmp_path / "file" / "below").mkdir()
        temporary.write_text("x", encoding="utf-8")


def test_a_parent_that_is_a_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write"):
        paths.write_text_atomic(tmp_path / "file" / "below", "x")


def test_too_little_space_is_said_before_writing(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"needs 1000000000\.00 GB"):
        paths.require_space(tmp_path / "not yet" / "x", 10**18)
    paths.require_space(tmp_path / "x", 1)


def test_read_bytes_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        paths.read_bytes(tmp_path / "none", limit_bytes=10)
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="11 bytes, expected at most 10"):
        paths.read_bytes(tmp_path / "big", limit_bytes=10)


def test_a_hint_can_be_pasted_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "my model; rm -r x.gguf"
    error = paths.read_error(path, FileNotFoundError(2, "No such file or directory"))
    assert error.hint is not None
    assert shlex.split(error.hint)[-1] == str(path)


def test_other_write_errors_keep_their_reason(tmp_path: Path) -> None:
    error = paths.write_error(tmp_path / "x", OSError(errno.EROFS, "read-only"))
    assert "Read-only file system" in error.message


def test_files_are_readable_as_any_other_is(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    with paths.atomic_path(target) as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)  # as safetensors' save_file replaces what it is given
    plain = tmp_path / "plain"
    plain.touch()
    assert target.stat().st_mode == plain.stat().st_mode
