"""Draw the roofline picture of docs/performance.md from the newest generation rows of a file.

Usage: scripts/roofline.py [RESULTS.jsonl] [PICTURE.svg]      (needs the extra `dev` or `report`)

A token cannot come faster than its bytes: across, what a token reads; up, tokens a second; the
line is the machine's measured bandwidth. Each case is an arrow from stock to the edge engine.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from plm_edge import results

ROOT = Path(__file__).parents[1]
COLORS = {"edge": "#1b7f4d", "stock": "#8a8a8a"}
Row = dict[str, Any]


def newest(rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    """The last generation row with a reading of each case, depth, cache type and engine."""
    return {
        (
            row["case"],
            row["test"]["depth"],
            row["settings"]["cache_type"],
            row["engine"]["variant"],
        ): row
        for row in rows
        if row["kind"] == "bench" and row["test"]["kind"] == "generation" and row["reading"]
    }


def point(row: Row) -> tuple[float, float]:
    """(GB a token, tokens a second)."""
    return row["reading"]["bytes_per_token"] / 1e9, statistics.median(row["samples"])


def draw(rows: dict[tuple[Any, ...], Row], target: Path) -> None:
    """Write the picture."""
    figure, axes = pyplot.subplots(figsize=(8, 5))
    bandwidth = max(row["machine"]["bandwidth_gigabytes_per_second"] for row in rows.values())
    across = [0.6 + 0.02 * step for step in range(115)]
    axes.plot(across, [bandwidth / x for x in across], color="black", linewidth=1.2)
    axes.fill_between(across, [bandwidth / x for x in across], 100, color="#eeeeee")
    axes.text(1.02, bandwidth / 0.93, f"reads {bandwidth:.0f} GB/s: nothing above", fontsize=9)
    for (case, depth, cache, variant), row in rows.items():
        x, y = point(row)
        axes.plot(x, y, "o", color=COLORS[variant], markersize=6)
        if variant == "stock":
            continue
        label = f"{case} depth {depth}" + (f" {cache}" if depth else "")
        axes.annotate(label, (x, y), (-6, -12), textcoords="offset points", fontsize=8, ha="right")
        stock = rows.get((case, depth, cache, "stock")) or rows.get((case, depth, "f16", "stock"))
        if stock is not None:
            arrow = {"arrowstyle": "->", "color": "#1b7f4d", "alpha": 0.5}
            axes.annotate("", (x, y), point(stock), arrowprops=arrow)
    axes.set(xlim=(0.4, 2.7), ylim=(0, 70), xlabel="GB a token reads", ylabel="tokens a second")
    axes.set_title(
        "Generation: grey stock llama.cpp, green plm-edge, line the byte limit", fontsize=10
    )
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    """Read, draw, say where."""
    arguments = [Path(argument) for argument in sys.argv[1:]]
    source = arguments[0] if arguments else results.default_path()
    target = arguments[1] if len(arguments) > 1 else ROOT / "docs/roofline.svg"
    pyplot.rcParams["svg.hashsalt"] = "plm-edge"  # the same rows, the same file
    draw(newest(results.read(source).rows), target)
    print(target)


if __name__ == "__main__":
    main()
