"""Engines on disk: what is whole is found, what is not is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from plm_edge.engine import build, cache
from plm_edge.engine.cache import Engine
from plm_edge.errors import ConfigError, InputError
from tests.engine.conftest import Mini


@pytest.fixture
def built(mini: Mini) -> Engine:
    """The miniature engine, in the cache."""
    return build.ensure("edge")


def edit_manifest(engine: Engine, **changes: object) -> None:
    path = engine.folder / cache.MANIFEST_NAME
    table = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps(table), encoding="utf-8")


def test_the_handle_names_what_is_there(built: Engine) -> None:
    assert built.tool("llama-bench") == built.bin_dir / "llama-bench"
    assert built.library().is_file()
    assert built.variant == "edge"
    assert not built.has_ui
    assert built.test_programs() == []
    assert built.library_environment() == {"LLAMA_CPP_LIB_PATH": str(built.lib_dir)}
    assert built.size_bytes() > 0
    built.check()


def test_an_unknown_tool_lists_the_known(built: Engine) -> None:
    with pytest.raises(InputError, match=r"no 'llama-cli': llama-bench, llama-completion"):
        built.tool("llama-cli")


def test_the_users_library_path_comes_second(
    built: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert built.run_environment() == {"LD_LIBRARY_PATH": str(built.lib_dir)}
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    assert built.run_environment() == {"LD_LIBRARY_PATH": f"{built.lib_dir}:/opt/lib"}


def test_the_cache_note_tells_new_from_old(built: Engine) -> None:
    assert built.cache_note.startswith(f"{built.manifest.key}, built 20")
    assert built.cache_note.endswith(" s")
    again = cache.find(built.manifest.key)
    assert again is not None
    assert again.cache_note.endswith("from the cache")


def spoil_library(engine: Engine) -> None:
    engine.library().resolve().write_bytes(b"short")


def remove_tool(engine: Engine) -> None:
    engine.tool("llama-bench").unlink()


def cut_manifest(engine: Engine) -> None:
    (engine.folder / cache.MANIFEST_NAME).write_text('{"key": ', encoding="utf-8")


def remove_manifest(engine: Engine) -> None:
    (engine.folder / cache.MANIFEST_NAME).unlink()


def list_manifest(engine: Engine) -> None:
    (engine.folder / cache.MANIFEST_NAME).write_text("[]", encoding="utf-8")


@pytest.mark.parametrize(
    "damage", [spoil_library, remove_tool, cut_manifest, remove_manifest, list_manifest]
)
def test_a_damaged_engine_is_not_found_but_said_and_rebuilt(
    built: Engine, damage: Callable[[Engine], None]
) -> None:
    damage(built)
    assert cache.find(built.manifest.key) is None
    engines, broken = cache.list_all()
    assert engines == []
    assert len(broken) == 1 and built.manifest.key in broken[0]
    again = build.ensure("edge")
    assert again.was_built_now
    again.check()


def test_a_changed_binary_of_the_same_size_is_found_by_check(built: Engine) -> None:
    library = built.library().resolve()
    content = library.read_bytes()
    library.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"libllama\.so\.0\.1\.0: not the file that was built"):
        built.check()


def test_a_manifest_with_an_unknown_key_names_it(built: Engine) -> None:
    edit_manifest(built, colour="blue")
    with pytest.raises(ConfigError, match=r"manifest\.json: unknown key 'colour'"):
        cache.load(built.folder)


def test_an_empty_cache_lists_nothing(mini: Mini) -> None:
    assert cache.list_all() == ([], [])
    assert cache.find("edge-host-0") is None


def test_an_engine_of_this_source_serves_without_a_compiler(
    built: Engine, mini: Mini, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.ensure("edge").folder == built.folder
    mini.add_source("src/more.c", "int more;\n")
    assert cache.find_built_from("edge", mini.load(), built.manifest.cpu) is None
    assert cache.find_built_from("stock", mini.load(), built.manifest.cpu) is None
