"""The synthetic vocabulary: complete, without holes, and readable by the tokenizers library."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from plm_edge.convert.synth_tokenizer import SPECIALS, make_vocabulary, write_tokenizer
from plm_edge.errors import InputError

TEXT = "def naïve(x): return x**2  # 日本語 🦜 e\u0301\n\n\tthe generator's 12345 <|im_end|>"


@pytest.mark.parametrize("size", [259, 512, 2048, 40_000])
def test_ids_have_no_hole_and_no_duplicate(size: int) -> None:
    vocabulary = make_vocabulary(size)
    assert len(set(vocabulary.tokens)) == len(vocabulary.tokens)
    assert vocabulary.tokens[-3:] == SPECIALS
    assert 0 <= vocabulary.padding < max(2, size // 500)


def test_full_size_has_plm_ids() -> None:
    vocabulary = make_vocabulary(151_936)
    assert [vocabulary.id_of(token) for token in SPECIALS] == [151_643, 151_644, 151_645]
    assert vocabulary.padding == 290


def test_every_merge_joins_known_tokens() -> None:
    vocabulary = make_vocabulary(8000)
    known = set(vocabulary.tokens[:256])
    for left, right in vocabulary.merges:
        assert left in known and right in known
        known.add(left + right)


@pytest.mark.parametrize("size", [259, 2048, 20_000])
def test_text_survives_the_way_there_and_back(tmp_path: Path, size: int) -> None:
    vocabulary = make_vocabulary(size)
    write_tokenizer(tmp_path, vocabulary, 4096)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    encoded = tokenizer.encode(TEXT)
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == TEXT.replace("e\u0301", "é")
    assert encoded.ids[-1] == vocabulary.id_of("<|im_end|>")
    assert max(encoded.ids) < len(vocabulary.tokens)


def test_too_small_for_all_bytes_is_refused() -> None:
    with pytest.raises(InputError, match="vocab_size = 258"):
        make_vocabulary(258)
