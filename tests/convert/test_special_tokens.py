from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plm_edge.convert.bpe import read_bpe
from plm_edge.convert.special_tokens import special_tokens
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError
from tests.convert.samples import TINY, change_json, make_checkpoint

END_OF_TEXT, TURN_START, TURN_END = 508, 509, 510


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "tiny")


def found(folder: Path) -> dict[str, Any]:
    files = TokenizerFiles.read(folder)
    values = special_tokens(files, read_bpe(files).added, TINY.vocab_size)
    return {key.removeprefix("tokenizer.ggml."): value.value for key, value in values.items()}


def test_plms_tokens(folder: Path) -> None:
    assert found(folder) == {
        "eos_token_id": TURN_END,
        "padding_token_id": END_OF_TEXT,
        "bos_token_id": END_OF_TEXT,  # config.json's, since the tokenizer has none
        "add_bos_token": False,
        "add_eos_token": False,
    }


def test_the_tokenizers_end_beats_the_configs(folder: Path) -> None:
    change_json(folder / "config.json", lambda c: c.update(eos_token_id=3))
    assert found(folder)["eos_token_id"] == TURN_END


def test_without_names_the_configs_ids_count(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    change_json(folder / "config.json", lambda c: c.update(eos_token_id=3))
    assert found(folder)["eos_token_id"] == 3


def test_a_template_that_begins_with_a_token_adds_it(folder: Path) -> None:
    first = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [first, text], "pair": []}
    change_json(folder / "tokenizer.json", lambda t: t.update(post_processor=template))
    assert found(folder)["add_bos_token"] is True
    assert found(folder)["bos_token_id"] == END_OF_TEXT


@pytest.mark.parametrize("id_", [512, -1, 1 << 40])
def test_an_id_beyond_the_vocabulary_is_refused(folder: Path, id_: int) -> None:
    change_json(folder / "config.json", lambda c: c.update(bos_token_id=id_))
    with pytest.raises(InputError, match=f"bos_token_id = {id_}, expected an id below 512"):
        found(folder)


JUNK: tuple[Any, ...] = (7, [], {}, [7], {"processors": 7}, {"type": "TemplateProcessing"})
BROKEN_TEMPLATES = (
    {"type": "TemplateProcessing", "single": [7, {}], "pair": [None, {"Sequence": 3}, []]},
    {"type": "TemplateProcessing", "single": "ab", "pair": {"a": 1}},
    {"processors": [None, {"type": ["x"]}]},
)


@pytest.mark.parametrize("processor", [*JUNK, *BROKEN_TEMPLATES])
def test_no_post_processor_crashes(folder: Path, processor: Any) -> None:
    change_json(folder / "tokenizer.json", lambda t: t.update(post_processor=processor))
    assert found(folder)["eos_token_id"] == TURN_END
