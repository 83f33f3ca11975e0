"""Draws what a file's size costs: searched recipes beside fixed ones and beside Edge-LLM's rule.

    .venv/bin/python scripts/size_curve.py MODEL.f16.gguf MODEL.f32.gguf \
        --calibrate CALIBRATION.txt --judge HELD_OUT.txt -o docs/figures/size-curve.svg

Every file is made by `plm-edge quantize` with the same importance matrix and judged by
`plm-edge eval` on text the search has not seen. For each fixed recipe a file of at most the same
size is searched, so every pair is a fair one. Prints the table of docs/quantize.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.quantize import sensitivity

FIXED = ("q4", "q4-k", "q8")
UNIFORM = ("q2_K", "q3_K", "q4_0", "q4_K", "q5_K", "q6_K")
METHODS = ("search", "luc", "luc-robust")
LABELS = {
    "fixed": "fixed recipe",
    "search": "searched",
    "luc": "Edge-LLM's rule",
    "luc-robust": "its scale mended",
}


@dataclass(frozen=True)
class Made:
    """A file: how it was made, and which fixed recipe's size it may have."""

    path: Path
    method: str
    beside: str
    foretold: float | None = None
    ranks_alike: float | None = None


def main() -> None:
    """Make, judge, draw, print."""
    flags = _flags()
    flags.work.mkdir(parents=True, exist_ok=True)
    files = _make_all(flags)
    rows = _judge(flags, files)
    (flags.work / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    _draw(flags.output, files, rows)
    print(_table(files, rows))
    print(f"\n{_foretold(files, rows)}")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/size-curve"))
    parser.add_argument("--ctx", default="256")
    parser.add_argument("--windows", default="100")
    parser.add_argument("--threads", default="1")
    return parser.parse_args()


def _run(*words: object) -> str:
    command = [sys.executable, "-m", "plm_edge", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _make_all(flags: argparse.Namespace) -> list[Made]:
    importance = flags.work / "importance.gguf"
    _run(
        "imatrix",
        flags.source,
        "--text",
        flags.calibrate,
        "--ctx",
        flags.ctx,
        "--windows",
        40,
        "--threads",
        flags.threads,
        "-o",
        importance,
    )
    files: list[Made] = []
    for name, recipe in _fixed(flags.work).items():
        path = flags.work / f"{name}.gguf"
        _quantize(flags, path, importance, "--recipe", recipe)
        files.append(Made(path, "fixed", name))
        for method in METHODS:
            files += _searched(flags, path, importance, name, method)
    return files


def _searched(
    flags: argparse.Namespace, fixed: Path, importance: Path, name: str, method: str
) -> list[Made]:
    """A file of at most the fixed one's size; none where Edge-LLM's rule reaches no such size."""
    path = flags.work / f"{name}.{method}.gguf"
    budget = fixed.stat().st_size
    words = ("--budget", budget, "--method", method, "--text", flags.calibrate)
    try:
        told = _quantize(flags, path, importance, *words)
    except subprocess.CalledProcessError:
        if method == "search":
            raise
        return []
    return [Made(path, method, name, told["foretold_divergence"], told["proxy_rank_correlation"])]


def _quantize(
    flags: argparse.Namespace, path: Path, importance: Path, *words: object
) -> dict[str, Any]:
    rest = ("--imatrix", importance, "--threads", flags.threads, "--json")
    told: dict[str, Any] = json.loads(_run("quantize", flags.source, "-o", path, *words, *rest))
    return told


def _fixed(work: Path) -> dict[str, str]:
    found = {name: name for name in FIXED}
    for kind in UNIFORM:
        path = work / f"all-{kind}.toml"
        path.write_text(f'schema = 1\ndescription = "{kind} throughout"\ntype = "{kind}"\n')
        found[f"all-{kind}"] = str(path)
    return found


def _judge(flags: argparse.Namespace, files: list[Made]) -> dict[str, dict[str, object]]:
    """Each fixed recipe first and those of its size after it, so that differences are from it."""
    rows: dict[str, dict[str, object]] = {}
    for name in dict.fromkeys(one.beside for one in files):
        group = [one.path for one in files if one.beside == name]
        text = _run(
            *("eval", *group, "--text", flags.judge, "--reference", flags.reference, "--json"),
            *("--ctx", flags.ctx, "--windows", flags.windows, "--threads", flags.threads),
            *("--results", flags.work / "results.jsonl"),
        )
        rows |= {row["model"]: row for row in json.loads(text)}
    return rows


def _draw(output: Path, files: list[Made], rows: dict[str, dict[str, object]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "plm-edge", "font.size": 10})
    figure, axes = pyplot.subplots(figsize=(8, 5))
    styles = {"fixed": "s", "search": "o", "luc": "x", "luc-robust": "+"}
    for method, marker in styles.items():
        points = sorted(_point(rows[one.path.name]) for one in files if one.method == method)
        sizes, values, low, high = zip(*points, strict=True)
        spread = [
            [value - end for value, end in zip(values, low, strict=True)],
            [end - value for value, end in zip(values, high, strict=True)],
        ]
        line = "-" if method == "search" else ""
        axes.errorbar(sizes, values, spread, marker=marker, linestyle=line, label=LABELS[method])
    axes.set(xlabel="file size (MB)", ylabel="KL from f32 (nats a token), 95 %", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, metadata={"Date": None}, bbox_inches="tight")


def _point(row: dict[str, object]) -> tuple[float, float, float, float]:
    kl = row["divergence"]
    return (row["model_bytes"] / 1e6, kl["value"], kl["low"], kl["high"])


def _table(files: list[Made], rows: dict[str, dict[str, object]]) -> str:
    lines = [
        "| fixed recipe | bytes | KL | searched, bytes | KL | less the fixed one | "
        "Edge-LLM's rule | mended |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in dict.fromkeys(one.beside for one in files):
        of = {one.method: rows[one.path.name] for one in files if one.beside == name}
        change = of["search"]["difference_from_first"]["divergence"]
        lines.append(
            f"| {name} | {of['fixed']['model_bytes']:,} | {of['fixed']['divergence']['value']:.5f} "
            f"| {of['search']['model_bytes']:,} | {of['search']['divergence']['value']:.5f} "
            f"| {change['value']:+.5f} [{change['low']:+.5f}, {change['high']:+.5f}] "
            f"| {_kl(of.get('luc'))} | {_kl(of.get('luc-robust'))} |"
        )
    return "\n".join(lines)


def _foretold(files: list[Made], rows: dict[str, dict[str, object]]) -> str:
    """How well sums of single measurements told what whole files cost, on other text."""
    pairs = [
        (one.foretold, rows[one.path.name]["divergence"]["value"])
        for one in files
        if one.foretold is not None
    ]
    alike = sensitivity.rank_correlation(*zip(*pairs, strict=True))
    factors = sorted(cost / foretold for foretold, cost in pairs)
    one_probe = next(one.ranks_alike for one in files if one.ranks_alike is not None)
    told = (
        f"Foretold for these {len(pairs)} files (searched ones and those of Edge-LLM's rule) and "
        f"measured on them, on other text: Spearman's correlation "
        f"{alike:.3f}, and {factors[0]:.2f} to {factors[-1]:.2f} "
        f"times what was foretold. One probe of each matrix would have ranked all its formats "
        f"alike to {one_probe:.3f}."
    )
    return textwrap.fill(told, 130)


def _kl(row: dict[str, object] | None) -> str:
    return "–" if row is None else f"{row['divergence']['value']:.5f}"


if __name__ == "__main__":
    main()
