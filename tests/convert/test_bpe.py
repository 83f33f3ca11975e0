from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plm_edge.convert.bpe import CONTROL, NFC_NOTE, NORMAL, UNUSED, USER_DEFINED, read_bpe
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError
from tests.convert.samples import TINY, change_json, make_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "tiny")


def tokens_of(folder: Path, size: int = TINY.vocab_size) -> tuple[list[str], list[int]]:
    return read_bpe(TokenizerFiles.read(folder)).tokens(size, folder)


def change(folder: Path, alter: Any) -> None:
    change_json(folder / "tokenizer.json", alter)


def test_every_id_has_a_token_and_padding_fills_the_rest(folder: Path) -> None:
    texts, types = tokens_of(folder)
    assert len(texts) == len(types) == TINY.vocab_size
    assert texts[0] == "!"
    assert types[:2] == [NORMAL, NORMAL]
    assert (texts[510], types[510]) == ("<|im_end|>", CONTROL)
    assert (texts[511], types[511]) == ("[PAD511]", UNUSED)


def test_vocab_json_and_merges_txt_give_the_same(folder: Path) -> None:
    whole = read_bpe(TokenizerFiles.read(folder))
    (folder / "tokenizer.json").unlink()
    assert read_bpe(TokenizerFiles.read(folder)) == whole


def test_it_says_that_accents_are_composed(folder: Path) -> None:
    assert read_bpe(TokenizerFiles.read(folder)).notes == (NFC_NOTE,)
    change(folder, lambda t: t.update(normalizer=None))
    assert read_bpe(TokenizerFiles.read(folder)).notes == ()


def test_merges_may_be_texts_or_pairs(folder: Path) -> None:
    pairs = read_bpe(TokenizerFiles.read(folder)).merges
    change(folder, lambda t: t["model"].update(merges=list(pairs)))
    assert read_bpe(TokenizerFiles.read(folder)).merges == pairs


def test_added_tokens_that_are_not_special_are_user_defined(folder: Path) -> None:
    entry = {"id": 511, "content": "a\u2581b", "special": False}
    change(folder, lambda t: t["added_tokens"].append(entry))
    texts, types = tokens_of(folder)
    assert (texts[511], types[511]) == ("a b", USER_DEFINED)


def test_a_named_special_token_without_an_id_gets_the_next(folder: Path) -> None:
    config = folder / "tokenizer_config.json"
    change_json(config, lambda c: c.update(sep_token="<sep>"))
    texts, types = tokens_of(folder)
    assert (texts[511], types[511]) == ("<sep>", CONTROL)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda t: t["model"]["vocab"].pop("!"), "no token has the id 0, though 510 is used"),
        (lambda t: t["model"]["vocab"].update({"!": 1}), "id 1 is both '!' and '\"'"),
        (lambda t: t["added_tokens"][0].update(id=0), "id 0 is both '!' and '<|endof"),
        (lambda t: t["added_tokens"][0].update(id="508"), "expected id and content"),
        (lambda t: t["added_tokens"].append({"id": 511, "content": "!"}), "has the ids 0 and 511"),
        (lambda t: t["added_tokens"].append(3), "expected id and content"),
        (lambda t: t.update(added_tokens={"a": 1}), "expected a list"),
        (lambda t: t["model"]["vocab"].update({"!": -1}), "'!' has the id -1"),
        (lambda t: t["model"]["vocab"].update({"!": "0"}), "'!' has the id 0"),
        (lambda t: t["model"].update(vocab=[["!", 0]]), "no table of tokens"),
        (lambda t: t["model"]["merges"].append(["!", "?!?"]), "needs '\\?!\\?', which has no id"),
        (lambda t: t["model"]["merges"].append("a b c"), "no pair of tokens"),
        (lambda t: t["model"].update(merges=7), "expected a list"),
        (lambda t: t["model"].update(type="Unigram"), "model.type is not BPE"),
        (lambda t: t.update(model=None), "model.type is not BPE"),
        (lambda t: t["model"].update(dropout=0.1), "model.dropout = 0.1"),
        (lambda t: t["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda t: t.update(normalizer={"type": "Lowercase"}), "normalizer Lowercase"),
        (lambda t: t.update(pre_tokenizer=None), r"pre_tokenizer \(none\)"),
    ],
)
def test_a_broken_tokenizer_is_named_with_what_is_wrong(
    folder: Path, alter: Any, message: str
) -> None:
    change(folder, alter)
    change_json(folder / "tokenizer_config.json", lambda c: c.pop("added_tokens_decoder"))
    with pytest.raises(InputError, match=message) as caught:
        tokens_of(folder)
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message


def test_more_tokens_than_rows_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"511 tokens, but config\.json has vocab_size = 500"):
        tokens_of(folder, 500)


def test_a_bad_decoder_in_the_config_is_named(folder: Path) -> None:
    config = folder / "tokenizer_config.json"
    change_json(config, lambda c: c.update(added_tokens_decoder={"x": {}}))
    with pytest.raises(InputError, match="added_tokens_decoder has the id 'x'"):
        read_bpe(TokenizerFiles.read(folder))


def test_a_folder_without_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "merges.txt").unlink()
    with pytest.raises(InputError, match="no tokenizer: neither"):
        read_bpe(TokenizerFiles.read(folder))


def test_an_unknown_class_without_tokenizer_json_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    config = folder / "tokenizer_config.json"
    change_json(config, lambda c: c.update(tokenizer_class="OtherTokenizer"))
    with pytest.raises(InputError, match=r"'OtherTokenizer' without a tokenizer\.json"):
        read_bpe(TokenizerFiles.read(folder))


def test_merges_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"merges\.txt: not UTF-8"):
        read_bpe(TokenizerFiles.read(folder))
