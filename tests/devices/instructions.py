"""Instructions per token on a virtual Cortex-A76, ours beside stock llama.cpp (`make bench-arm`).

Under `-icount shift=0` qemu lets guest time advance by one nanosecond for each instruction, so what
llama-bench takes for nanoseconds are instructions. They repeat to about 0.03 %, and they are not
time: a real core waits for its memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plm_edge.bench import runner, sides
from plm_edge.bench.plan import Job, Side, Test
from plm_edge.convert.synth import SHAPES
from plm_edge.device import profile as profiles
from plm_edge.engine import build
from plm_edge.engine.plan import Variant
from plm_edge.shape import PlmShape
from tests.devices import machine, pi, store
from tests.devices.debian import Unavailable
from tests.devices.machine import Board
from tests.devices.pi import VirtualPi

PROFILE = "rpi5"
VARIANTS: tuple[Variant, ...] = ("edge", "stock")
LAYERS = 1
DEPTHS = (0, 1024)
# A turn of a chat, and a batch as a long prompt is split into.
PROMPT_TOKENS = (64, 512)
GENERATED_TOKENS = 8
ZERO_FRACTION = 0.909
# What the page's table lies between.
MARKS = ("<!-- table -->\n", "<!-- end of table -->\n")


@dataclass(frozen=True)
class Row:
    """One test on both engines, in instructions per token."""

    test: str
    depth: int
    edge: float
    stock: float

    @property
    def ratio(self) -> float:
        """Ours as a share of stock's."""
        return self.edge / self.stock


def shape() -> PlmShape:
    """PLM-1.8B with few layers, and a vocabulary cut alike: the head keeps its share.

    Whole groups of 8 rows, as the uncut vocabulary has: other matrices are not repacked.
    """
    whole = SHAPES["plm-1.8b"]
    vocabulary = -(-whole.vocab_size * LAYERS // whole.num_hidden_layers // 8) * 8
    return replace(whole, num_hidden_layers=LAYERS, vocab_size=vocabulary)


def _plm_edge(*words: str | Path) -> None:
    command = [sys.executable, "-m", "plm_edge", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"plm-edge {words[0]}: {done.stderr}")


def models() -> Path:
    """The folder with edge.gguf and stock.gguf: random weights, q4, each in its layout."""
    size = shape()
    inputs = ["1", str(size), str(ZERO_FRACTION)]
    return store.made("arm-models", inputs, lambda target: _make_models(target, size))


def _make_models(target: Path, size: PlmShape) -> None:
    checkpoint, whole = target / "checkpoint", target / "f16.gguf"
    sizes = ("--layers", str(size.num_hidden_layers), "--vocab", str(size.vocab_size))
    _plm_edge("synth", checkpoint, *sizes, "--zero-fraction", str(ZERO_FRACTION))
    for layout in ("edge", "stock"):
        _plm_edge("convert", checkpoint, "-o", whole, "--layout", layout, "--type", "f16")
        _plm_edge("quantize", whole, "-o", target / f"{layout}.gguf", "--recipe", "q4")
        whole.unlink()
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()


@contextmanager
def _disk() -> Iterator[Path]:
    """A file system with both models and both engines' llama-bench."""
    device = profiles.find(PROFILE)
    programs = {name: build.ensure_for(device, name).tool(runner.TOOL) for name in VARIANTS}
    with tempfile.TemporaryDirectory(prefix="plm-arm-") as name:
        tree = Path(name) / "tree"
        tree.mkdir()
        for variant, program in programs.items():
            shutil.copy(models() / f"{variant}.gguf", tree)
            shutil.copy(program, tree / f"bench-{variant}")
        machine.make_disk(Path(name) / "image", tree, megabytes=512)
        yield Path(name) / "image"


def _side(variant: Variant) -> Side:
    file = Path(f"/mnt/{variant}.gguf")
    if variant == "edge":
        return sides.edge_sides(file, (1,), ("f16",), "auto")[0]
    return sides.stock_sides(file, (1,))[0]


def _count(there: VirtualPi, side: Side, depth: int) -> list[tuple[Test, float]]:
    """Instructions per token of every test at one depth."""
    prompts = tuple(Test("prompt", tokens, depth) for tokens in PROMPT_TOKENS)
    tests = (*prompts, Test("generation", GENERATED_TOKENS, depth))
    job = Job(side, tests, 0)
    words = [f"/mnt/bench-{side.variant}", *job.arguments()]
    # Read once beforehand, so that no page of the model is fetched while instructions are counted.
    done = there.ssh(f"cat {side.file} >/dev/null && {' '.join(words)}")
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}:\n{done.stderr}")
    return [(test, 1e9 / speed) for test, speed in runner.speeds(done.stdout, job)]


def measure(depths: Sequence[int] = DEPTHS) -> list[Row]:
    """Boot one machine and count everything in it."""
    board = Board(memory_mb=2048, is_counting=True)
    found: dict[tuple[str, int], dict[str, float]] = {}
    with (
        _disk() as disk,
        tempfile.TemporaryDirectory() as name,
        pi.running(Path(name), board, disk) as there,
    ):
        for depth in depths:
            for variant in VARIANTS:
                for test, count in _count(there, _side(variant), depth):
                    print(f"{variant}, {test.label}, depth {depth}: {count:,.0f}", file=sys.stderr)
                    found.setdefault((test.label, depth), {})[variant] = count
    return [Row(label, depth, **counts) for (label, depth), counts in found.items()]


def text_of(rows: Sequence[Row]) -> str:
    """The table, as plain text that is Markdown too."""
    lines = [
        "| instructions per token | depth | plm-edge | stock | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.test} | {row.depth} | {row.edge:,.0f} | {row.stock:,.0f} | {row.ratio:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def write_page(page: Path, table: str) -> None:
    """Put the table where the page has its marks."""
    head, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    page.write_text(f"{head}{MARKS[0]}{table}\n{MARKS[1]}{tail}", encoding="utf-8")


def main() -> int:
    """Print the table, or JSON; `--page` writes the table into a page between its marks."""
    parser = argparse.ArgumentParser(prog="make bench-arm", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.add_argument("--page", type=Path, help="a page to write the table into")
    asked = parser.parse_args()
    try:
        rows = measure()
    except Unavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if asked.json:
        whole = [{**asdict(row), "ratio": row.ratio, "unit": "instructions/token"} for row in rows]
        print(json.dumps({"emulated": True, "shape": asdict(shape()), "rows": whole}, indent=2))
    else:
        print(text_of(rows))
        print("instructions on a virtual Cortex-A76, not time", file=sys.stderr)
    if asked.page:
        write_page(asked.page, text_of(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
