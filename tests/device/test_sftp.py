"""Orders for sftp: whatever a file is called, it is one word to it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from plm_edge.device import sftp

SERVER = Path("/usr/lib/openssh/sftp-server")
needs_sftp = pytest.mark.skipif(
    shutil.which("sftp") is None or not SERVER.exists(),
    reason="sftp or its server is not installed (apt-get install openssh-sftp-server)",
)
NAMES = (
    *("plain.gguf", "two words", "it's", 'a "b"', "$(id) `id`", "~", "#1", "-rf", "*", "a?[b]"),
    *("back\\slash", "\\*", "ends in \\", "grün 😀", "{a,b}", "a;b&c|d"),
)


def test_it_goes_on_only_where_there_is_something() -> None:
    assert sftp.put(Path("/a"), "/b", 0) == b"put /a /b\n"
    assert sftp.put(Path("/a"), "/b", 7) == b"reput /a /b\n"


@pytest.mark.parametrize("name", ["two\nlines", "back\rhere"])
def test_a_line_end_fits_into_no_order(name: str) -> None:
    assert sftp.put(Path("/tmp") / name, "/b", 0) is None
    assert sftp.put(Path("/a"), f"/{name}", 0) is None


@needs_sftp
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_one_word_on_both_sides(name: str, tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for folder in (near, far):
        folder.mkdir()
    (near / name).write_bytes(b"all of it")
    # What the wildcards would also match.
    (near / "another").write_bytes(b"not this")

    for offset in (0, 4):
        order = sftp.put(near / name, str(far / name), offset)
        words = ["sftp", "-q", "-b", "-", "-D", str(SERVER)]
        subprocess.run(words, input=order, check=True, capture_output=True)
        assert [(path.name, path.read_bytes()) for path in far.iterdir()] == [(name, b"all of it")]
        (far / name).write_bytes(b"all ")
