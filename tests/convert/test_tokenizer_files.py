from __future__ import annotations

from pathlib import Path

from plm_edge.convert.tokenizer_files import TokenizerFiles
from tests.convert.samples import change_json, make_checkpoint


def test_absent_files_are_empty_tables(tmp_path: Path) -> None:
    files = TokenizerFiles.read(tmp_path)
    assert (files.tokenizer, files.config, files.model) == ({}, {}, {})
    assert not files.is_byte_level


def test_a_bpe_with_byte_fallback_is_sentencepieces(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    assert TokenizerFiles.read(folder).is_byte_level
    change_json(folder / "tokenizer.json", lambda t: t["model"].update(byte_fallback=True))
    assert not TokenizerFiles.read(folder).is_byte_level
