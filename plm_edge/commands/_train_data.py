"""`plm-edge train data`: a tokenizer and token shards, from Python's own text or a user's files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plm_edge import console
from plm_edge.commands._data import DryRunFlag, JsonFlag

# Rows of the embedding that stand for no token, as PLM has some.
PADDING = 8
CONTEXT = 1024


def data(
    output: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of shards to write.")],
    tokenizer: Annotated[Path, typer.Option(help="Its folder; trained when it has none.")],
    text: Annotated[list[Path] | None, typer.Option(help="Your own UTF-8 files.")] = None,
    vocab_size: Annotated[int, typer.Option(min=512, help="Of a tokenizer to train.")] = 4096,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    from plm_edge.model import dataset

    trains = not (tokenizer / "tokenizer.json").exists()
    source = ", ".join(map(str, text)) if text else "this Python's standard library"
    if dry_run:
        word = f"train a tokenizer of {vocab_size} ids into" if trains else "use the tokenizer in"
        print(f"would {word} {tokenizer} and write shards of {source} to {output}")
        return
    if trains:
        console.note(f"training a tokenizer of {vocab_size} ids on {source} (under a minute) ...")
        texts = [dataset.read_text_file(path) for path in text or []] or dataset.tokenizer_texts()
        dataset.require_corpus(texts, source)
        write_tokenizer(texts, tokenizer, vocab_size)
    with console.step_progress(f"write shards to {output}") as progress:
        if text:
            report = dataset.build_text(output, tokenizer, text, progress)
        else:
            report = dataset.build_nano(output, tokenizer, progress)
    if as_json:
        console.print_json(report.__dict__)
        return
    for name, count in report.tokens.items():
        print(f"{name:<24} {count:>12,} tokens")


def write_tokenizer(texts: list[str], folder: Path, vocab_size: int) -> None:
    """Train a byte-level BPE on `texts` and write it in the form PLM's tokenizer has."""
    from plm_edge.convert import synth_tokenizer
    from plm_edge.model import dataset

    specials = synth_tokenizer.SPECIALS
    bytes_only = synth_tokenizer.make_vocabulary(256 + len(specials)).tokens[:256]
    count = vocab_size - PADDING - 256 - len(specials)
    merges = dataset.train_merges(texts, synth_tokenizer.SPLIT, count)
    tokens = (*bytes_only, *(left + right for left, right in merges), *specials)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = synth_tokenizer.Vocabulary(tokens, tuple(merges), vocab_size)
    synth_tokenizer.write_tokenizer(folder, vocabulary, CONTEXT)
    _write_size(folder, vocab_size)


def _write_size(folder: Path, vocab_size: int) -> None:
    import json

    from plm_edge.paths import write_text_atomic

    write_text_atomic(folder / "config.json", json.dumps({"vocab_size": vocab_size}) + "\n")
