"""The compiler from pip: pinned, installed once, called through scripts with any path."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from plm_edge.engine import source, zig
from plm_edge.errors import ConfigError, InputError, ToolError

PIN = zig.Pin("ziglang", "1.0", ("0" * 64, "1" * 64))


class FakePip:
    """Installs a zig that prints its arguments and its cache folder, one per line."""

    def __init__(self, error: Exception | None = None, *, is_empty: bool = False) -> None:
        self.requirements: list[str] = []
        self.error, self.is_empty = error, is_empty

    def __call__(self, words: Sequence[str]) -> None:
        self.requirements.append(Path(words[words.index("-r") + 1]).read_text(encoding="utf-8"))
        assert "--require-hashes" in words
        if self.error is not None:
            raise self.error
        target = Path(words[words.index("--target") + 1])
        (target / "ziglang").mkdir(parents=True)
        if not self.is_empty:
            program = target / "ziglang" / "zig"
            program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$ZIG_LOCAL_CACHE_DIR"\n')
            program.chmod(0o755)


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "it's the $cache"
    monkeypatch.setenv("PLM_EDGE_CACHE", str(folder))
    return folder


def test_it_is_installed_once_and_by_hash(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = FakePip()
    monkeypatch.setattr(source, "pip", pip)
    said: list[str] = []
    program = zig.ensure(PIN, said.append)
    assert program == cache_dir / "toolchains" / "ziglang-1.0" / "ziglang" / "zig"
    assert zig.ensure(PIN, said.append) == program
    assert pip.requirements == [f"ziglang==1.0 --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}\n"]
    assert len(said) == 1 and "installing ziglang 1.0 with pip" in said[0]


def test_a_failed_install_leaves_nothing_and_names_a_way_out(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "pip", FakePip(ToolError("pip: no network")))
    with pytest.raises(ToolError, match="cannot install zig: pip: no network") as caught:
        zig.ensure(PIN)
    assert caught.value.hint == "--toolchain gcc"
    assert [path.suffix for path in (cache_dir / "toolchains").iterdir()] == [".lock"]


def test_a_wheel_without_zig_is_said(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "pip", FakePip(is_empty=True))
    with pytest.raises(InputError, match=r"zig: not in the wheel"):
        zig.ensure(PIN)


def test_the_scripts_pass_every_word_on(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "pip", FakePip())
    tools = cache_dir / "the tools"
    zig.write_tools(zig.ensure(PIN), tools)
    words = ["-c", "a b.c", "-DX=$HOME", ""]
    for name, first in (
        ("clang", ["cc", "-target", "aarch64-linux-musl", "-g0"]),
        ("clang++", ["c++", "-target", "aarch64-linux-musl", "-g0"]),
        ("ar", ["ar"]),
        ("ranlib", ["ranlib"]),
    ):
        done = subprocess.run([tools / name, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [*first, *words, str(tools / "zig-objects")]


def test_the_cpu_is_said_in_zigs_word(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "pip", FakePip())
    zig.write_tools(zig.ensure(PIN), cache_dir / "tools")
    command = [cache_dir / "tools" / "clang++", "-O3", "-march=cortex_a76-aes", "-c", "a b.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[4:8] == ["-O3", "-mcpu=cortex_a76-aes", "-c", "a b.c"]


def test_every_build_folder_has_the_same_scripts(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their text is what ccache takes for the compiler."""
    monkeypatch.setattr(source, "pip", FakePip())
    folders = [cache_dir / "builds" / name / "tools" for name in ("one", "two")]
    for folder in folders:
        zig.write_tools(zig.ensure(PIN), folder)
    texts = [{path.name: path.read_text() for path in folder.iterdir()} for folder in folders]
    assert texts[0] == texts[1]


def test_zigs_own_objects_are_given_back(tmp_path: Path) -> None:
    (tmp_path / "zig-objects" / "o").mkdir(parents=True)
    (tmp_path / "clang").touch()
    for _ in range(2):
        zig.forget_objects(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["clang"]


def test_the_shipped_pin_is_whole() -> None:
    pin = zig.pin()
    assert pin.package == "ziglang"
    assert len(set(pin.sha256)) == len(pin.sha256) >= 2


def test_the_users_pin_wins_and_a_bad_one_is_named(own_folders: Path) -> None:
    own = own_folders / "config" / "devices" / "toolchains" / "zig.toml"
    own.parent.mkdir(parents=True)
    own.write_text('schema = 1\npackage = "ziglang"\nversion = "9"\nsha256 = ["xyz"]\n')
    with pytest.raises(ConfigError, match=r"zig\.toml: sha256 = 'xyz'"):
        zig.pin()


def test_a_file_that_is_nowhere_is_said() -> None:
    with pytest.raises(InputError, match=r"no devices/toolchains/none\.cmake"):
        zig.toolchain_file("none.cmake")
