"""Measures plm-nano's quality again and writes every figure of it into the pages that tell it.

    .venv/bin/python scripts/quality_docs.py                  # all, about half an hour of one core
    .venv/bin/python scripts/quality_docs.py size tasks       # some

A page's part between `<!-- measured: NAME -->` and `<!-- end -->` is replaced; what it says of the
figures in words is for whoever runs this to read again. Needs the extras `report` and `tasks`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

from plm_edge.commands import _search
from plm_edge.engine import build
from plm_edge.gguf_header import read_header
from plm_edge.quantize import candidates, recipe_text, search, sensitivity
from plm_edge.quantize.search import Space

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "models" / "plm-nano"
WINDOWS = "40"
_PERPLEXITY = re.compile(r"Final estimate: PPL = ([\d.]+)")


class Bench:
    """Files made of the model, in a folder of its own that may be kept for the next run."""

    def __init__(self, work: Path) -> None:
        self.digest = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()[:12]
        self.work = work / self.digest
        self.work.mkdir(parents=True, exist_ok=True)
        self.calibration = self._text("train", "--letters", "300000")
        self.held_out = self._text("test")
        self.f32 = self._converted("f32")
        self.f16 = self._converted("f16")

    def _text(self, share: str, *more: str) -> Path:
        path = self.work / f"{share}.txt"
        run(sys.executable, ROOT / "scripts" / "nano_text.py", share, path, *more)
        return path

    def _converted(self, kind: str) -> Path:
        path = self.work / f"plm-nano.{kind}.gguf"
        if not path.exists():
            edge("convert", MODEL, "-o", path, "--type", kind)
        return path

    def importance(self) -> Path:
        """What the files of the pages were rounded with."""
        path = self.work / "importance.gguf"
        words = ("--ctx", "256", "--windows", "40", "--threads", "1", "-o", path)
        edge("imatrix", self.f16, "--text", self.calibration, *words)
        return path

    def made(self, recipe: str, *more: object, name: str = "") -> Path:
        """A file by a fixed recipe."""
        path = self.work / f"plm-nano.{name or recipe}.gguf"
        edge("quantize", self.f16, "-o", path, "--recipe", recipe, "--threads", "1", *more)
        return path

    def judged(self, *files: Path) -> list[dict[str, Any]]:
        """Files against f32 on held-out text, each after the first with its difference."""
        words = ("--text", self.held_out, "--reference", self.f32, "--ctx", "256")
        rest = ("--windows", WINDOWS, "--threads", "1", "--json")
        rows: list[dict[str, Any]] = json.loads(
            edge("eval", *files, *words, *rest, "--results", self.work / "eval.jsonl")
        )
        return rows


def run(*words: object) -> str:
    """A command's stdout."""
    return subprocess.run([*map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout


def edge(*words: object) -> str:
    """A `plm-edge` command's stdout."""
    return run(sys.executable, "-m", "plm_edge", *words)


def which_model(bench: Bench) -> str:
    """What the figures are from."""
    key = build.ensure("edge").manifest.key
    return (
        f"Figures from `models/plm-nano/model.safetensors` with sha256 `{bench.digest}…`, engine "
        f"`{key}`, {date.today().isoformat()}."
    )


def size(bench: Bench) -> str:
    """The curve, its table, and how well it was foretold."""
    return run(
        *(sys.executable, ROOT / "scripts" / "size_curve.py", bench.f16, bench.f32),
        *("--calibrate", bench.calibration, "--judge", bench.held_out, "--windows", WINDOWS),
        *("--work", bench.work / "size-curve"),
        *("-o", ROOT / "docs" / "figures" / "size-curve.svg"),
    ).strip()


def proxy(bench: Bench) -> str:
    """The search as large models get it, done on this one, beside everything measured."""
    importance = bench.work / "size-curve" / "importance.gguf"
    fixed = [bench.work / "size-curve" / f"{name}.gguf" for name in ("q4", "q8")]
    spaces = {"whole": _space(bench, importance)}
    with mock.patch.object(_search, "_LARGE_BYTES", 1):
        spaces["fast"] = _space(bench, importance)
    own = {(one.tensor.name, one.tensor.type) for one in spaces["whole"].candidates}
    pairs = [pair for pair in spaces["whole"].costs if pair not in own]
    costs = ([space.costs[pair] for pair in pairs] for space in spaces.values())
    rank = sensitivity.rank_correlation(*costs)
    alike = (
        f"Done so on plm-nano, the costs of {len(pairs)} formats of its matrices rank as those "
        f"measured as files do to {rank:.3f} (Spearman). The files that "
        "come of it, KL on held-out text:"
    )
    lines = [
        textwrap.fill(alike, 130) + "\n",
        "| of the size of | fixed | all measured | as for large models | less the fixed one |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for path in fixed:
        made = [path]
        for name, space in spaces.items():
            types = search.choose(space, path.stat().st_size).types
            recipe = bench.work / f"{name}.toml"
            text = recipe_text.render(search.recipe(space, types, name), [])
            recipe.write_text(text, encoding="utf-8")
            made.append(bench.made(str(recipe), "--imatrix", importance, name=name))
        rows = bench.judged(*made)
        change = rows[2]["difference_from_first"]["divergence"]
        cells = " | ".join(f"{row['divergence']['value']:.5f}" for row in rows)
        lines.append(
            f"| {path.stem} | {cells} | {change['value']:+.5f} "
            f"[{change['low']:+.5f}, {change['high']:+.5f}] |"
        )
    return "\n".join(lines)


def _space(bench: Bench, importance: Path) -> Space:
    types = candidates.DEFAULT_TYPES
    request = _search.Request(
        read_header(bench.f16), bench.calibration, types, importance, threads=1
    )
    return _search.prepare(request, build.ensure("edge")).space(importance)


def prune(bench: Bench) -> str:
    """What leaving out neurons costs."""
    words = (bench.f16, bench.importance(), "--text", bench.held_out)
    return run(sys.executable, ROOT / "scripts" / "prune_cost.py", *words).strip()


def importance(bench: Bench) -> str:
    """What importance gains at a fixed recipe."""
    q3 = bench.work / "all-q3_K.toml"
    q3.write_text('schema = 1\ndescription = "q3_K"\ntype = "q3_K"\n', encoding="utf-8")
    lines = [
        "| recipe | KL without | with importance | difference |",
        "| --- | ---: | ---: | ---: |",
    ]
    matrix = bench.importance()
    for name, recipe in (("q4", "q4"), ("q4-k", "q4-k"), ("Q3_K throughout", str(q3))):
        bare = bench.made(recipe, name="bare")
        weighed = bench.made(recipe, "--imatrix", matrix, name="weighed")
        before, after = bench.judged(bare, weighed)
        change = after["difference_from_first"]["divergence"]
        lines.append(
            f"| {name} | {before['divergence']['value']:.5f} | {after['divergence']['value']:.5f} "
            f"| {change['value']:+.5f} [{change['low']:+.5f}, {change['high']:+.5f}] |"
        )
    return "\n".join(lines)


def perplexity(bench: Bench) -> str:
    """Our perplexity beside that of llama.cpp's tool, which is the same engine's."""
    files = [bench.made("q4"), bench.made("q8"), bench.f16]
    words = ("--text", bench.held_out, "--ctx", "512", "--threads", "1", "--json")
    rows = json.loads(edge("eval", *files, *words, "--results", bench.work / "eval.jsonl"))
    lines = [
        "| file | `plm-edge eval` | `llama-perplexity -b 512` | its default, `-b 2048` |",
        "| --- | ---: | ---: | ---: |",
    ]
    for path, row in zip(files, rows, strict=True):
        theirs = [_theirs(path, bench.held_out, batch) for batch in ("512", "2048")]
        ours = f"{row['perplexity']['value']:.4f}"
        lines.append(f"| {path.name} | {ours} | " + " | ".join(theirs) + " |")
    return "\n".join(lines)


def _theirs(model: Path, text: Path, batch: str) -> str:
    engine = build.ensure("edge")
    words = [engine.tool("llama-perplexity"), "-m", model, "-f", text, "-c", "512", "-b", batch]
    done = subprocess.run(
        [*map(str, words), "-t", "1"],
        check=True,
        capture_output=True,
        text=True,
        env=engine.run_environment(),
    )
    found = _PERPLEXITY.search(done.stdout + done.stderr)
    if found is None:
        raise SystemExit(f"llama-perplexity told no perplexity of {model}")
    return found[1]


def tasks(bench: Bench) -> str:
    """Scores of the f16 file, and what 8 and 4 bits change, item by item."""
    results = bench.work / "tasks.jsonl"
    results.unlink(missing_ok=True)
    for path in (bench.f16, bench.made("q8"), bench.made("q4")):
        edge("tasks", "run", path, "--threads", "1", "--results", results, "--fresh")
    page = json.loads(edge("report", results, "--json"))
    section = next(one for one in page["sections"] if one["id"] == "tasks")
    found: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in section["tables"][0]["rows"]:
        row = dict(zip(section["tables"][0]["columns"], row, strict=True))
        kind = row["model"].removesuffix(".gguf").rpartition(".")[2]
        found.setdefault((row["task"], row["score"]), {})[kind] = row
    lines = [
        "| task | score | f16 (95 %) | q8 | q8 less f16 | q4 | q4 less f16 | items | "
        "best without a model |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for (task, score), by in found.items():
        cells = [task, score.replace("_", r"\_"), by["f16"]["value (95 %)"]]
        for kind in ("q8", "q4"):
            cells += [by[kind]["value (95 %)"].split(" ")[0], by[kind]["difference"]]
        cells += [by["f16"]["items"], by["f16"]["best without a model"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


PARTS: dict[str, tuple[Callable[[Bench], str], tuple[str, ...]]] = {
    "model": (which_model, ("quantize", "eval", "tasks")),
    "importance": (importance, ("quantize",)),
    "size": (size, ("quantize",)),
    "proxy": (proxy, ("quantize",)),
    "prune": (prune, ("quantize",)),
    "perplexity": (perplexity, ("eval",)),
    "tasks": (tasks, ("tasks",)),
}


def main() -> None:
    """Measure what was asked for, each part written as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "quality")
    flags = parser.parse_args()
    if unknown := set(flags.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    bench = Bench(flags.work)
    for name, (measure, pages) in PARTS.items():
        if name in flags.parts or not flags.parts:
            text = measure(bench)
            for page in pages:
                put(ROOT / "docs" / f"{page}.md", name, text)
            print(f"{name}: {', '.join(pages)}", file=sys.stderr)


def put(page: Path, name: str, text: str) -> None:
    """Replace one measured part of a page."""
    part = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    whole = page.read_text(encoding="utf-8")
    made, count = part.subn(lambda found: f"{found[1]}{text}\n{found[2]}", whole)
    if not count:
        raise SystemExit(f"{page}: no part {name}")
    page.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
