"""The converted tokenizer gives the ids of the original, as the engine itself tokenizes."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from plm_edge.convert import pretokenizer
from plm_edge.convert.pipeline import convert
from plm_edge.convert.tokenizer import read_tokenizer
from plm_edge.engine.cache import Engine
from tests.convert.engine_ids import ids_of_engine
from tests.convert.samples import TINY, change_json, make_checkpoint
from tests.convert.test_sentencepiece_vocabulary import write_model

CORPUS = Path(__file__).with_name("corpus.txt").read_text(encoding="utf-8").splitlines()
SPECIAL = [
    "<|im_start|>user\nHello<|im_end|>\n",
    "<|im_start|><|im_start|> <|im_end|>x<|endoftext|>",
    "no <|special at all|> and <|im_end",
]
SPACES = ["", " ", "\n", "\n\n\n  \n\t\t \r\n x  \n", " a  b   c    d", "a\u00a0b\u3000c\u2003d"]
# "é" as e and an accent, Hangul as letters, an Ångström sign: NFC composes them.
DECOMPOSED = ["e\u0301te\u0301 o\u0308", "\u1112\u1161\u11ab\u1100\u1173\u11af", "10 \u212b"]

SPLITS: dict[str, list[str]] = {
    "qwen2": [pretokenizer.QWEN2],
    "qwen35": [pretokenizer.QWEN35],
    "llama-bpe": [pretokenizer.LLAMA3],
    "smaug-bpe": [pretokenizer.LLAMA3],
    "deepseek-v3": list(pretokenizer.DEEPSEEK3),
}
WORDS_FIRST = ("llama-bpe",)


def split_of(name: str) -> Any:
    """The pre-tokenizer with llama.cpp's `name`, as the tokenizers library builds it."""
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, split_of("gpt-2")])
    steps = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in SPLITS[name]]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*steps, last])


def train(folder: Path, name: str) -> None:
    """Replace a checkpoint's tokenizer by one trained with the split called `name`."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name in WORDS_FIRST))
    tokenizer.pre_tokenizer = split_of(name)
    trainer = trainers.BpeTrainer(
        vocab_size=TINY.vocab_size - 3,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    change_json(folder / "tokenizer_config.json", lambda c: c.pop("added_tokens_decoder"))


def scrambled() -> list[str]:
    """Strings put together from pieces of the corpus and odd characters, always the same ones."""
    rng = random.Random(7)
    words = [word for line in CORPUS for word in line.split(" ")]
    odd = [
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "'s",
        "'LL",
        "é",
        "中",
        "🚀",
        "1",
        "23",
        "456",
        ".",
        "_",
        "/",
    ]
    return ["".join(rng.choices(words + odd * 4, k=12)) for _ in range(150)]


def original_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def assert_same(texts: list[str], ours: list[list[int]], theirs: list[list[int]]) -> None:
    different = [
        (text, one, other)
        for text, one, other in zip(texts, ours, theirs, strict=True)
        if one != other
    ]
    assert different == []


@pytest.mark.engine
@pytest.mark.parametrize("name", pretokenizer.NAMES)
def test_ids_are_the_originals_for_every_split(engine: Engine, tmp_path: Path, name: str) -> None:
    folder, target = make_checkpoint(tmp_path / name), tmp_path / "plm.gguf"
    train(folder, name)
    report = convert(folder, target)
    assert report.tokenizer.startswith(f"gpt2/{name},")
    texts = [*CORPUS, *SPACES, *SPECIAL, *scrambled()]
    [ids] = ids_of_engine(engine.lib_dir, tmp_path, [(str(target), texts, True)])
    assert_same(texts, ids, original_ids(folder, texts))


@pytest.mark.engine
def test_decomposed_accents_differ_until_they_are_composed(engine: Engine, tmp_path: Path) -> None:
    """PLM's tokenizer composes (NFC) first, llama.cpp does not; composed input is the same."""
    folder, target = make_checkpoint(tmp_path / "tiny"), tmp_path / "plm.gguf"
    report = convert(folder, target)
    assert any("NFC" in note for note in report.notes)
    composed = [unicodedata.normalize("NFC", text) for text in DECOMPOSED]
    jobs = [(str(target), DECOMPOSED, True), (str(target), composed, True)]
    as_given, as_composed = ids_of_engine(engine.lib_dir, tmp_path, jobs)
    theirs = original_ids(folder, DECOMPOSED)
    assert as_composed == theirs
    assert all(ours != others for ours, others in zip(as_given, theirs, strict=True))


@pytest.mark.engine
@pytest.mark.parametrize("space_first", [True, False])
def test_a_sentencepiece_model_keeps_its_ids(
    engine: Engine, tmp_path: Path, space_first: bool
) -> None:
    folder, target = make_checkpoint(tmp_path / "tiny"), tmp_path / "plm.gguf"
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    write_model(folder, space_first=space_first)
    report = convert(folder, target)
    assert report.tokenizer == "llama, 500 tokens and 12 for padding"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    texts = [*CORPUS, *scrambled()]
    [ids] = ids_of_engine(engine.lib_dir, tmp_path, [(str(target), texts, False)])
    assert_same(texts, ids, [processor.encode(text) for text in texts])


def test_padding_is_counted_and_missing_parts_are_told(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "tiny")
    tokenizer = read_tokenizer(folder, TINY.vocab_size)
    assert (tokenizer.kind, tokenizer.pre) == ("gpt2", "qwen2")
    assert (tokenizer.tokens, tokenizer.padding) == (511, 1)
    (folder / "tokenizer_config.json").unlink()
    change_json(folder / "config.json", lambda c: c.pop("eos_token_id"))
    notes = " ".join(read_tokenizer(folder, TINY.vocab_size).notes)
    assert "no chat template" in notes
    assert "no end-of-text token" in notes


def test_a_byte_level_json_beats_a_sentencepiece_model_beside_it(tmp_path: Path) -> None:
    folder = write_model(make_checkpoint(tmp_path / "tiny"))
    assert read_tokenizer(folder, TINY.vocab_size).kind == "gpt2"
    change_json(folder / "tokenizer.json", lambda t: t["model"].update(byte_fallback=True))
    assert read_tokenizer(folder, TINY.vocab_size).kind == "llama"
