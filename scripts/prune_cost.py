"""What leaving out neurons costs: KL of the model's output, measured, by share and by rule.

    .venv/bin/python scripts/prune_cost.py MODEL.f16.gguf IMPORTANCE.gguf --text TEXT

A neuron is left out by putting zeros into its rows of ffn_up and ffn_down (edge layout), in memory.
Those that put out least go first: mean square of the neuron times the squares of its row. How many
in which layer: the same share everywhere, or by Edge-LLM's rule on either scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np  # noqa: TID253 - a script of its own

from plm_edge.engine import build
from plm_edge.eval import text
from plm_edge.eval.model import Options
from plm_edge.eval.perturb import Perturbed
from plm_edge.eval.vocabulary import Vocabulary
from plm_edge.gguf_header import GgufHeader, read_header
from plm_edge.quantize import imatrix, luc

SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
RULES = ("even", "min-max", "robust")


def main() -> None:
    """Measure every share under every rule and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("importance", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    flags = parser.parse_args()
    header = read_header(flags.model)
    output = outputs(header, flags.importance)
    lib_dir = build.ensure("edge").lib_dir
    with Vocabulary(header, lib_dir) as vocabulary:
        windows = text.windows(text.read(flags.text), vocabulary, 256, 8)
    print("| left out | " + " | ".join(RULES) + " |\n| ---: | ---: | ---: | ---: |")
    with Perturbed(header, lib_dir, Options(256, 1), windows, 4096) as model:
        for share in SHARES:
            cells = [cell(model, header, output, shares(output, share, rule)) for rule in RULES]
            print(f"| {share:.0%} | " + " | ".join(cells) + " |")


def cell(
    model: Perturbed,
    header: GgufHeader,
    output: Mapping[int, np.ndarray],
    left_out: Mapping[int, float],
) -> str:
    """The divergence, and the share really left out where a layer's limit has cut it."""
    share = sum(left_out.values()) / len(left_out)
    return f"{divergence(model, header, output, left_out):.5f} ({share:.0%})"


def outputs(header: GgufHeader, importance: Path) -> dict[int, np.ndarray]:
    """Squares each neuron puts out per token, by layer."""
    found = imatrix.read(importance)
    imatrix.require_fit(found, importance, header)
    return {
        int(name.split(".")[1]): entry.mean[0] * (rows(header, name) ** 2).sum(axis=1)
        for name, entry in found.neurons.items()
    }


def rows(header: GgufHeader, name: str) -> np.ndarray:
    """A matrix of an f16 file, a neuron per row."""
    tensor = header.tensor(name)
    values = np.fromfile(header.path, np.float16, tensor.values, offset=tensor.offset)
    return values.reshape(tensor.shape).astype(np.float32)


def shares(output: Mapping[int, np.ndarray], share: float, rule: str) -> dict[int, float]:
    """The share of neurons to leave out of each layer."""
    if rule == "even":
        return dict.fromkeys(output, share)
    # What a layer loses when that share of it goes: the measure of the rule.
    errors = [float(np.sort(one)[: int(len(one) * share)].sum()) for one in output.values()]
    scale: luc.Scale = "min-max" if rule == "min-max" else "robust"
    return dict(zip(output, luc.sparsity(errors, share, scale), strict=True))


def divergence(
    model: Perturbed,
    header: GgufHeader,
    output: Mapping[int, np.ndarray],
    left_out: Mapping[int, float],
) -> float:
    """KL of the model without those neurons."""
    replaced = {}
    for layer, share in left_out.items():
        order = np.argsort(output[layer])[: int(len(output[layer]) * share)]
        for part in ("ffn_up", "ffn_down"):
            name = f"blk.{layer}.{part}.weight"
            values = rows(header, name)
            values[order] = 0
            replaced[name] = values.astype(np.float16).view(np.uint8).ravel()
    with model.replaced(replaced):
        return model.divergence()


if __name__ == "__main__":
    main()
