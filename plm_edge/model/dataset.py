"""From text to token shards: a byte-level BPE trained on the corpus, documents and dialogues.

Shards: `code`, `help`, `topics` (pre-training), `dialogue` (SFT-like text), `sft-general` and
`sft-code` (loss on answers only), `validation` and `test` (modules no phase has seen).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.console import Progress, no_progress
from plm_edge.errors import InputError
from plm_edge.model import corpus, dialogue, shards
from plm_edge.model.hf_config import CONFIG, read_config
from plm_edge.paths import read_error, write_text_atomic
from plm_edge.shell import quote

END_OF_TEXT = "<|endoftext|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
SMALLEST_CORPUS_CHARACTERS = 10_000
VALIDATION_SHARE = 0.05

Streams = dict[str, list[tuple[list[int], list[bool] | None]]]
"""By shard: pieces of (ids, which of them the loss counts)."""


@dataclass(frozen=True)
class DataReport:
    """What was written."""

    tokens: dict[str, int]
    characters: int


def train_merges(texts: Iterable[str], split: str, count: int) -> list[tuple[str, str]]:
    """The first `count` merges of a byte-level BPE on `texts`, split by the regex `split` (NFC)."""
    import json

    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=count + len(alphabet), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def read_tokenizer(folder: Path) -> Any:
    """The `tokenizers` tokenizer of a checkpoint folder."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise read_error(path, error) from error
    except Exception as error:  # the Rust side raises bare Exception
        raise InputError(f"{path}: not a tokenizer: {error}") from error
    for special in (END_OF_TEXT, TURN_START, TURN_END):
        if tokenizer.token_to_id(special) is None:
            raise InputError(f"{path}: has no token {special}")
    tokenizer.encode_special_tokens = True  # text that looks like a special token stays text
    return tokenizer


def read_text_file(path: Path) -> str:
    """A user's own text; `InputError` names the byte that is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise read_error(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 at byte {error.start}",
            hint=f"{quote(['iconv', '-t', 'utf-8', path])} > new.txt",
        ) from error


def require_corpus(texts: Sequence[str], source: str) -> int:
    """The characters of a corpus; `InputError` when there is too little to learn from."""
    characters = sum(map(len, texts))
    if characters < SMALLEST_CORPUS_CHARACTERS:
        raise InputError(
            f"{source}: {characters} characters of text, "
            f"expected at least {SMALLEST_CORPUS_CHARACTERS}"
        )
    return characters


@dataclass(frozen=True)
class Encoder:
    """Turns documents and dialogues into (ids, which of them the loss counts)."""

    tokenizer: Any

    def document(self, text: str) -> tuple[list[int], None]:
        """A text of any length and its end; windows are cut when a batch is drawn."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [*ids, self.tokenizer.token_to_id(END_OF_TEXT)], None

    def exchange(self, question: str, answer: str) -> tuple[list[int], list[bool]]:
        """One ChatML exchange; only the answer and the end of its turn count."""
        asked = [*self.turn_open("user"), *self.plain(question), *self.turn_close()]
        asked += self.turn_open("assistant")
        said = [*self.plain(answer), self.tokenizer.token_to_id(TURN_END)]
        rest = self.plain("\n")
        counts = [False] * len(asked) + [True] * len(said) + [False] * len(rest)
        return asked + said + rest, counts

    def plain(self, text: str) -> list[int]:
        """Ids of text; what looks like a special token in it is text (see `read_tokenizer`)."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def turn_open(self, role: str) -> list[int]:
        """`<|im_start|>role` and a newline."""
        return [self.tokenizer.token_to_id(TURN_START), *self.plain(f"{role}\n")]

    def turn_close(self) -> list[int]:
        """`<|im_end|>` and a newline."""
        return [self.tokenizer.token_to_id(TURN_END), *self.plain("\n")]


def tokenizer_texts() -> list[str]:
    """What plm-nano's tokenizer is trained on: the training modules, and questions about them."""
    train = corpus.split(corpus.standard_library())["train"]
    texts = [text for texts in corpus.documents(train, "train").values() for text in texts]
    return texts + [f"{p.question}\n{p.answer}" for p in dialogue.pairs(train, dialogue.GENERAL)]


def build_nano(
    folder: Path, tokenizer_folder: Path, progress: Progress = no_progress
) -> DataReport:
    """Write every shard of plm-nano's training into `folder`, and the held-out texts beside."""
    encoder = Encoder(read_tokenizer(tokenizer_folder))
    modules = corpus.split(corpus.standard_library())
    train = corpus.documents(modules["train"], "train")
    characters = require_corpus([text for texts in train.values() for text in texts], "corpus")
    streams: Streams = {
        name: [encoder.document(text) for text in texts] for name, texts in train.items()
    }
    for share in corpus.SHARES[1:]:
        held_out = corpus.documents(modules[share], share)
        texts = held_out["code"] + held_out["help"]
        streams[share] = [encoder.document(text) for text in texts]
        write_text_atomic(folder / f"{share}.txt", "\n".join(texts))
    streams |= _dialogues(encoder, modules)
    return DataReport(_write_all(folder, tokenizer_folder, streams, progress), characters)


def _dialogues(encoder: Encoder, modules: dict[corpus.Share, list[corpus.Module]]) -> Streams:
    streams: Streams = {}
    for name, kinds in (("sft-general", dialogue.GENERAL), ("sft-code", dialogue.CODE)):
        for share, suffix in (("train", ""), ("validation", "-validation"), ("test", "-test")):
            found = dialogue.pairs(modules[share], kinds)  # type: ignore[index]
            found += dialogue.under_other_names(found)
            streams[name + suffix] = [encoder.exchange(p.question, p.answer) for p in found]
    both = streams["sft-general"] + streams["sft-code"]
    mixed = {name: sorted(pieces, key=_mixed) for name, pieces in streams.items()}
    return {**mixed, "dialogue": [(ids, None) for ids, _ in both]}


def _mixed(piece: tuple[list[int], list[bool] | None]) -> bytes:
    """A fixed order without meaning.

    A module's questions side by side would let an answer be copied from the one before it.
    """
    return hashlib.sha256(str(piece[0]).encode()).digest()


def build_text(
    folder: Path, tokenizer_folder: Path, paths: Sequence[Path], progress: Progress = no_progress
) -> DataReport:
    """Write the shards `text` and `validation` of a user's own UTF-8 files.

    The last `VALIDATION_SHARE` of each file is held out.
    """
    encoder = Encoder(read_tokenizer(tokenizer_folder))
    texts = [read_text_file(path) for path in paths]
    characters = require_corpus(texts, ", ".join(map(str, paths)))
    streams: Streams = {"text": [], "validation": []}
    for text in texts:
        cut = int(len(text) * (1 - VALIDATION_SHARE))
        streams["text"].append(encoder.document(text[:cut]))
        streams["validation"].append(encoder.document(text[cut:]))
    return DataReport(_write_all(folder, tokenizer_folder, streams, progress), characters)


def _write_all(
    folder: Path,
    tokenizer_folder: Path,
    streams: Streams,
    progress: Progress,
) -> dict[str, int]:
    vocab_size = vocabulary_size(tokenizer_folder)
    counts = {}
    for number, (name, pieces) in enumerate(streams.items()):
        progress(number, len(streams))
        counts[name] = shards.write(folder, name, pieces, vocab_size)
    shards.write_index(folder, tokenizer_folder / "tokenizer.json", vocab_size, counts)
    progress(len(streams), len(streams))
    return counts


def vocabulary_size(tokenizer_folder: Path) -> int:
    """Rows of the embedding that goes with a tokenizer: its config's, else its tokens."""
    if (tokenizer_folder / CONFIG).exists():
        return int(read_config(tokenizer_folder)["vocab_size"])
    size: int = read_tokenizer(tokenizer_folder).get_vocab_size()
    return size
