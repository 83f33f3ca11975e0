"""Render the figures of models/plm-nano/README.md from the runs under build/nano.

Usage: python scripts/nano_card.py [build/nano]; `scripts/nano.sh` makes what it reads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CARD = ROOT / "models" / "plm-nano" / "README.md"
START, END = "<!-- figures, written by scripts/nano_card.py -->", "<!-- end of figures -->"
PHASES = (
    ("base", "pre-training"),
    ("sft-general", "SFT 1, general"),
    ("sft-code", "SFT 2, code"),
    ("aries", "preference rounds"),
)
SHARDS = (
    ("test", "text of test modules"),
    ("sft-general-test", "answers, general"),
    ("sft-code-test", "answers, code"),
)


def interval(estimate: dict[str, Any], digits: int) -> str:
    low, high = estimate["low"], estimate["high"]
    return f"{estimate['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def steps(folder: Path) -> tuple[int, int]:
    """Optimizer steps of a run, and its tokens where it counts them."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return rows[-1]["step"] + 1, rows[-1].get("tokens", 0)


def phases(root: Path) -> str:
    rows = []
    for name, words in PHASES:
        report = json.loads((root / "eval" / f"{name}.json").read_text(encoding="utf-8"))
        by_shard = {row["shard"]: row for row in report["held_out"] if row["force"] is None}
        count, tokens = steps(root / name)
        losses = [interval(by_shard[shard]["perplexity"], 1) for shard, _ in SHARDS]
        rows.append([words, f"{count:,}", f"{tokens:,}" if tokens else "pairs", *losses])
    return table(["after", "steps", "tokens", *(words for _, words in SHARDS)], rows)


def layers(root: Path) -> str:
    rows = []
    for name, words in PHASES:
        report = json.loads((root / "eval" / f"{name}.json").read_text(encoding="utf-8"))
        shares = report["held_out"][0]["zero_shares"]
        mean = sum(shares) / len(shares)
        rows.append([words, *(f"{share:.1%}" for share in shares), f"{mean:.1%}"])
    count = len(rows[0]) - 2
    return table(["after", *(f"layer {n}" for n in range(count)), "mean"], rows)


def forced(report: dict[str, Any]) -> str:
    rows = [row for row in report["held_out"] if row["shard"] == "test"]
    shown = [
        [
            "none" if row["force"] is None else f"{row['force']:.0%}",
            interval(row["perplexity"], 1),
        ]
        for row in rows
    ]
    return table(["activations cut per token", "perplexity, test modules"], shown)


def tasks(report: dict[str, Any]) -> str:
    rows = [
        [
            task["kind"],
            task["measure"],
            str(task["model"]["count"]),
            *(interval(task[name], 3) for name in ("model", "majority", "retrieval")),
        ]
        for task in report["tasks"]
    ]
    return table(["question", "measure", "n", "plm-nano", "majority", "retrieval"], rows)


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "nano"
    final = json.loads((root / "eval" / "model.json").read_text(encoding="utf-8"))
    cut = json.loads((root / "eval" / "forced.json").read_text(encoding="utf-8"))
    parts = [
        "Perplexity per token in windows of 512 tokens; 95 % intervals, over windows:",
        phases(root),
        "Share of zero activations on the test modules:",
        layers(root),
        "Perplexity when every token keeps only its largest activations:",
        forced(cut),
        "Questions about the test modules (answers: greedy, at most 128 tokens):",
        tasks(final),
    ]
    text = CARD.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    body = "\n\n".join(parts)
    CARD.write_text(f"{before}{START}\n{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
