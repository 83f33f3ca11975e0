"""What is refused before a model is loaded, because the engine would abort or run out of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plm_edge.chat import preflight
from plm_edge.errors import InputError, PlmEdgeError, SpaceError, UsageError
from tests.chat.scripted import Script, write_scripted


def written(folder: Path, **overrides: Any) -> Path:
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    return write_scripted(folder / "m.gguf", Script(overrides=keys))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"plm__block_count": 999}, "has more than 512 layers"),
        ({"plm__expert_count": 4}, "plm.expert_count"),
        ({"plm__attention__kv_lora_rank": 0}, "kv_lora_rank = 0"),
        ({"plm__attention__key_length": 16}, "qk_nope_head_dim = -16"),
        ({"plm__rope__freq_base": float("nan")}, "rope_theta = nan"),
    ],
)
def test_dimensions_no_plm_has_are_named(
    tmp_path: Path, overrides: dict[str, Any], reason: str
) -> None:
    path = written(tmp_path, **overrides)
    with pytest.raises(InputError) as caught:
        preflight.checked_header(path)
    assert caught.value.message.startswith(str(path))
    assert reason in caught.value.message


def test_a_token_that_appears_twice_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    assert data.count(b"[PAD263]") == 1
    path.write_bytes(data.replace(b"[PAD263]", b"[PAD264]"))
    with pytest.raises(InputError, match=r"token '\[PAD264\]' appears twice"):
        preflight.checked_header(path)


def test_a_token_with_a_zero_byte_counts_as_the_engine_reads_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"[PAD263]", b"[\0AD263]"))
    with pytest.raises(InputError, match=r"token '\[' appears twice"):
        preflight.checked_header(path)


def test_a_template_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(template="a template: QQ"))
    path.write_bytes(path.read_bytes().replace(b"template: QQ", b"template: \xff\xfe"))
    with pytest.raises(InputError, match="chat template: not UTF-8"):
        preflight.template_source(preflight.checked_header(path))


def test_a_name_can_always_be_printed(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "m.gguf", Script(name="name: QQ"))
    path.write_bytes(path.read_bytes().replace(b"name: QQ", b"name: \xff\xfe"))
    assert preflight.model_name(preflight.checked_header(path)).encode() == b"name: ??"
    unnamed = write_scripted(tmp_path / "file.gguf", Script(name=""))
    assert preflight.model_name(preflight.checked_header(unnamed)) == "file"


def test_memory_is_compared_with_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   100 kB\n")
    monkeypatch.setattr(preflight, "MEMINFO", meminfo)
    header = preflight.checked_header(written(tmp_path))
    preflight.require_cache_memory(header, 800, "f16")  # 128 B each: exactly 100 kB
    with pytest.raises(SpaceError, match="801 tokens needs"):
        preflight.require_cache_memory(header, 801, "f16")
    preflight.require_cache_memory(header, 801, "q8_0")
    meminfo.unlink()
    preflight.require_cache_memory(header, 10**9, "f16")  # nothing is known: the engine decides


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "line\nbreak"])
def test_keys_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(UsageError, match="printable ASCII"):
        preflight.require_key(key, None)


@pytest.mark.parametrize("content", ["", "\n \n", "# only a remark\n"])
def test_a_key_file_without_a_key(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(PlmEdgeError, match="has no key"):
        preflight.require_key(None, file)


def test_good_keys_pass(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# mine\nsesame\n")
    preflight.require_key(None, tmp_path / "keys")
    preflight.require_key("sesame,other", None)
    preflight.require_key(None, None)
