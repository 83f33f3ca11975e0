from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece

from plm_edge.convert.sentencepiece_vocabulary import (
    ADDED_SCORE,
    BYTE,
    CONTROL,
    NORMAL,
    PADDING_SCORE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Pieces,
    read_pieces,
)
from plm_edge.convert.tokenizer_files import TokenizerFiles
from plm_edge.errors import InputError
from tests.convert.samples import change_json

PIECES = 500


def write_model(folder: Path, *, rule: str = "identity", space_first: bool = True) -> Path:
    """A small Llama-like model: BPE with byte fallback."""
    text = Path(__file__).with_name("corpus.txt").read_text(encoding="utf-8")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.splitlines()),
        model_writer=model,
        vocab_size=PIECES,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name=rule,
        add_dummy_prefix=space_first,
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


def test_pieces_scores_and_types(tmp_path: Path) -> None:
    pieces = pieces_of(write_model(tmp_path), PIECES + 12)
    assert pieces.texts[:3] == ["<unk>", "<s>", "</s>"]
    assert pieces.types[:4] == [UNKNOWN, CONTROL, CONTROL, BYTE]
    assert pieces.types[PIECES - 1] == NORMAL
    last = PIECES + 11
    assert (pieces.texts[last], pieces.types[last]) == (f"[PAD{last}]", UNUSED)
    assert pieces.scores[last] == PADDING_SCORE


def test_added_tokens_take_their_ids(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "added_tokens.json").write_text(f'{{"<tool>": {PIECES}}}')
    decoder = {str(PIECES + 1): {"content": "<|im_end|>", "special": False}}
    (tmp_path / "tokenizer_config.json").write_text("{}")
    change_json(
        tmp_path / "tokenizer_config.json", lambda c: c.update(added_tokens_decoder=decoder)
    )
    pieces = pieces_of(tmp_path, PIECES + 2)
    assert pieces.texts[PIECES:] == ["<tool>", "<|im_end|>"]
    assert pieces.types[PIECES:] == [USER_DEFINED, CONTROL]
    assert pieces.scores[PIECES:] == [ADDED_SCORE] * 2


def pieces_of(folder: Path, size: int) -> Pieces:
    return read_pieces(TokenizerFiles.read(folder), size)


def test_a_normalizer_llama_cpp_lacks_is_told(tmp_path: Path) -> None:
    plain = pieces_of(write_model(tmp_path), PIECES)
    assert (plain.space_first, plain.notes) == (True, ())
    other = pieces_of(write_model(tmp_path, rule="nmt_nfkc", space_first=False), PIECES)
    assert not other.space_first
    assert "rewrites text" in other.notes[0]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x0a\xff\xff\xff\xff\x0f"])
def test_a_broken_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(InputError, match=r"tokenizer\.model: sentencepiece cannot read it"):
        pieces_of(tmp_path, PIECES)


def test_more_pieces_than_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocab_size = 300"):
        pieces_of(write_model(tmp_path), 300)


@pytest.mark.parametrize("id_", [PIECES + 12, -1])
def test_an_added_token_out_of_range_is_named(tmp_path: Path, id_: int) -> None:
    write_model(tmp_path)
    (tmp_path / "added_tokens.json").write_text(f'{{"<tool>": {id_}}}')
    with pytest.raises(InputError, match=f"'<tool>' has the id {id_}"):
        pieces_of(tmp_path, PIECES + 12)


def test_a_text_with_two_ids_is_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "added_tokens.json").write_text(f'{{"<s>": {PIECES}}}')
    with pytest.raises(InputError, match=f"'<s>' has the ids 1 and {PIECES}"):
        pieces_of(tmp_path, PIECES + 1)
