"""`plm-edge train prefer`: preference rounds after ARIES, offline and online."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge import console, resources, schema
from plm_edge.commands._data import DryRunFlag, NameArgument
from plm_edge.errors import InputError


def prefer(
    recipe: NameArgument,
    start_from: Annotated[Path, typer.Option(help="Run or checkpoint to start from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder with the tokenizer's files.")],
    pairs: Annotated[
        Path | None, typer.Option(help="JSON lines with question, better, worse; offline only.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: torch's choice.")] = 0,
    dry_run: DryRunFlag = False,
) -> None:
    chosen = _recipe(recipe)
    if dry_run:
        source = str(pairs) if pairs else f"{chosen.offline_pairs} documented answers"
        rounds = 0 if pairs else chosen.online_rounds
        print(f"would train {start_from} on {source} and in {rounds} online rounds into {output}")
        return
    from plm_edge.commands.train import require_torch

    require_torch()
    _run(chosen, start_from, output, tokenizer, pairs, threads)


def _recipe(name: str) -> Any:
    from plm_edge.commands.train import load_recipe
    from plm_edge.model.recipe import PreferenceRecipe

    found = load_recipe(resources.find("training", name))
    if not isinstance(found, PreferenceRecipe):
        raise InputError(
            f"{name}: stage = {found.stage!r}, expected 'preference'",
            hint=f"plm-edge train run {name} …",
        )
    return found


def _run(
    recipe: Any, origin: Path, output: Path, tokenizer: Path, pairs: Path | None, threads: int
) -> None:
    from dataclasses import replace

    import torch

    from plm_edge.model import aries, shards, start
    from plm_edge.model.dataset import Encoder, read_tokenizer

    if threads:
        torch.set_num_threads(threads)
    if pairs:  # no documented answers to judge the model's own by
        recipe = replace(recipe, online_rounds=0)
    sha256 = shards.tokenizer_hash(tokenizer / "tokenizer.json")
    found = start.load(origin)
    start.require_tokenizer(found, origin, sha256, tokenizer)
    material = _material(recipe, pairs)
    encoder = Encoder(read_tokenizer(tokenizer))
    trainer = aries.PreferenceTrainer(recipe, output, encoder, material, found, sha256)
    with console.step_progress(f"prefer {origin}") as progress:
        trainer.train(progress)


def _material(recipe: Any, path: Path | None) -> Any:
    from plm_edge.model import corpus, dialogue, preference
    from plm_edge.model.aries import Material

    if path is not None:
        return Material(read_pairs(path), ())
    train = corpus.split(corpus.standard_library())["train"]
    known = dialogue.pairs(train, dialogue.GENERAL)
    offline = preference.offline_pairs(known, recipe.offline_pairs, recipe.seed, recipe.loss.margin)
    return Material(offline, [(pair.question, pair.answer) for pair in known])


def read_pairs(path: Path) -> list[Any]:
    """Preferences from a user's JSON lines; `InputError` names the line that is not one."""
    import json

    from plm_edge.model.dataset import read_text_file
    from plm_edge.model.preference import Preference

    found = []
    for number, line in enumerate(read_text_file(path).splitlines(), start=1):
        if line.strip():
            try:
                found.append(schema.build(json.loads(line), Preference, path))
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}:{number}: not a JSON object: {error}") from error
    if not found:
        raise InputError(f"{path}: no pairs", hint='{"question": …, "better": …, "worse": …}')
    return found
