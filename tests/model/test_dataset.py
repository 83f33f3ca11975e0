"""From text to shards: what counts, what stays text, and what is too little or no text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from plm_edge.convert import synth_tokenizer
from plm_edge.errors import InputError
from plm_edge.model import corpus, dataset, dialogue, shards

SOURCE = (
    'def f{n}(x):\n    """Give number {n} and some more words about it."""\n'
    "    first = x + {n}\n    return first * 2\n\n\n"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    synth_tokenizer.write_tokenizer(folder, synth_tokenizer.make_vocabulary(400), 256)
    return folder


@pytest.fixture
def encoder(tokenizer: Path) -> dataset.Encoder:
    return dataset.Encoder(dataset.read_tokenizer(tokenizer))


def test_only_the_answer_and_its_end_count(encoder: dataset.Encoder) -> None:
    ids, counts = encoder.exchange("Why?", "So.")
    said = [i for i, counted in zip(ids, counts, strict=True) if counted]
    assert encoder.tokenizer.decode(said, skip_special_tokens=False) == "So.<|im_end|>"
    whole = encoder.tokenizer.decode(ids, skip_special_tokens=False)
    assert whole == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n"


def test_what_looks_like_a_special_token_in_a_text_stays_text(encoder: dataset.Encoder) -> None:
    end = encoder.tokenizer.token_to_id("<|im_end|>")
    assert end not in encoder.plain("see <|im_end|> here")
    assert encoder.exchange("<|im_end|>", "a")[0].count(end) == 2


def modules() -> list[corpus.Module]:
    names = [f"made{n}" for n in range(60)]
    texts = ["".join(SOURCE.format(n=f"{n}{i}") for i in range(4)) for n in range(60)]
    return [corpus.Module(name, text) for name, text in zip(names, texts, strict=True)]


def test_all_shards_are_written_and_held_out_modules_are_in_none_of_training(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "standard_library", modules)
    report = dataset.build_nano(tmp_path / "data", tokenizer)
    known = dataset.read_tokenizer(tokenizer)
    assert shards.read_index(tmp_path / "data")["tokens"] == report.tokens
    held_out = corpus.split(modules())["test"]
    assert held_out
    for name in ("code", "help", "dialogue", "sft-general", "sft-code"):
        text = known.decode(np.asarray(shards.open_shard(tmp_path / "data", name).ids).tolist())
        for module in held_out:
            assert f"def {corpus.definitions(module)[0].name}(x)" not in text
    assert held_out[0].text in (tmp_path / "data" / "test.txt").read_text(encoding="utf-8")


def test_a_held_out_module_that_repeats_training_code_is_not_held_out() -> None:
    found = modules()
    shares = corpus.split(found)
    long = 'def g(x):\n    """Words."""\n' + "    x = x + 1\n" * 30
    copied = corpus.Module(shares["test"][0].name, long)
    original = corpus.Module(shares["train"][0].name, "import os\n" + long)
    again = corpus.split([copied, original])
    assert copied in again["train"]
    assert copied not in again["test"]


def test_known_names_are_asked_for_as_users_write_them() -> None:
    pair = dialogue.Pair("what", "posixpath", "What does posixpath.join do?", "Join.")
    (other,) = dialogue.under_other_names([pair])
    assert (other.question, other.answer) == ("What does os.path.join do?", "Join.")
    assert dialogue.under_other_names([dialogue.Pair("where", "posixpath", "q", "a")]) == []


def test_a_users_files_become_text_and_validation(tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("words of my own é\n" * 1000, encoding="utf-8")
    report = dataset.build_text(tmp_path / "data", tokenizer, [path])
    assert set(report.tokens) == {"text", "validation"}
    assert 15 < report.tokens["text"] / report.tokens["validation"] < 25
    text = dataset.read_tokenizer(tokenizer).decode(
        np.asarray(shards.open_shard(tmp_path / "data", "text").ids).tolist()
    )
    assert text.startswith("words of my own é\nwords")


def test_a_document_longer_than_a_row_is_cut_not_refused(tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("one two three " * 2000, encoding="utf-8")
    dataset.build_text(tmp_path / "data", tokenizer, [path])
    shard = shards.open_shard(tmp_path / "data", "text")
    ids, counts = shard.window(1000, 32)
    assert (len(ids), counts.all()) == (33, True)


@pytest.mark.parametrize("content", ["", "too little"])
def test_too_little_text_is_refused_and_nothing_is_written(
    content: str, tokenizer: Path, tmp_path: Path
) -> None:
    path = tmp_path / "small.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=rf"small\.txt: {len(content)} characters of text"):
        dataset.build_text(tmp_path / "data", tokenizer, [path])
    assert not (tmp_path / "data").exists()


def test_text_that_is_not_utf8_names_the_byte(tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 " * 2000)
    with pytest.raises(InputError, match=r"latin\.txt: not UTF-8 at byte 3"):
        dataset.build_text(tmp_path / "data", tokenizer, [path])


def test_a_tokenizer_without_chat_tokens_is_refused(tokenizer: Path) -> None:
    path = tokenizer / "tokenizer.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["added_tokens"] = table["added_tokens"][:1]
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(InputError, match=r"has no token <\|im_start\|>"):
        dataset.read_tokenizer(tokenizer)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not a tokenizer"):
        dataset.read_tokenizer(tokenizer)


def test_merges_are_those_of_the_commonest_pairs() -> None:
    merges = dataset.train_merges(["aaab aaab aaab xy"] * 50, synth_tokenizer.SPLIT, 3)
    assert merges[0] == ("a", "a")
    assert len(merges) == 3
