"""Where a token's time and bytes go: an engine's operations, gathered into the parts of PLM."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plm_edge import shell
from plm_edge.bench import op_timer
from plm_edge.bench.plan import Side
from plm_edge.bench.roofline import Reads
from plm_edge.engine.cache import Engine
from plm_edge.errors import ToolError
from plm_edge.gguf_header import GgufHeader

PARTS = ("ffn", "projections", "attention", "head", "norms", "rest")
_ROLE = re.compile(r"^(?:blk\.\d+\.)?([a-z0-9_]+)\.weight$")
_PART_OF_ROLE = {
    **dict.fromkeys(("ffn_up", "ffn_down"), "ffn"),
    **dict.fromkeys(("attn_q", "attn_kv_a_mqa", "attn_output"), "projections"),
    **dict.fromkeys(("attn_k_b", "attn_v_b", "attn_kv_b"), "attention"),
    **dict.fromkeys(("token_embd", "output"), "head"),
    **dict.fromkeys(("attn_norm", "attn_kv_a_norm", "ffn_norm", "output_norm"), "norms"),
}
_PART_OF_OP = {
    **dict.fromkeys(("UNARY", "SQR"), "ffn"),
    **dict.fromkeys(("SOFT_MAX", "FLASH_ATTN_EXT"), "attention"),
    "RMS_NORM": "norms",
}
_COPIES = ("GET_ROWS", "SET_ROWS", "CPY", "CONT")


@dataclass(frozen=True)
class Part:
    """One part of a token: its time when the token runs undisturbed, and what it reads."""

    name: str
    seconds: float
    size_bytes: float
    calls: float

    @property
    def gigabytes_per_second(self) -> float | None:
        """Bytes over time; None where nothing worth counting is read."""
        return self.size_bytes / self.seconds / 1e9 if self.size_bytes and self.seconds else None


@dataclass(frozen=True)
class Profile:
    """A token taken apart."""

    depth: int
    token_seconds: float
    single_seconds: float
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> float:
        """Bytes read for the token."""
        return sum(part.size_bytes for part in self.parts)


def measure(side: Side, engine: Engine, depth: int, tokens: int) -> Mapping[str, Any]:
    """Run the timer on an engine; what it printed."""
    words = [str(side.file), side.threads, depth, tokens, side.cache_type, side.flash]
    command = [sys.executable, "-m", op_timer.__name__, *map(str, words)]
    done = shell.capture(command, env=engine.library_environment())
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise ToolError(f"{shell.quote(command)} printed no JSON: {done.stdout[:200]!r}") from error
    if not isinstance(found, dict) or not found.get("ops"):
        raise ToolError(f"{shell.quote(command)} saw no operation")
    return found


def gather(
    found: Mapping[str, Any], depth: int, header: GgufHeader, reads: Reads, live: float | None
) -> Profile:
    """The parts of a token; the sum of their times is that of an undisturbed token.

    Operations run one at a time take longer together than a whole token, so each part gets its
    share of the token's time.
    """
    token_seconds = statistics.median(found["token_seconds"])
    single = sum(op["seconds"] for op in found["ops"])
    sizes = part_bytes(header, live)
    sizes["attention"] += reads.cache_bytes_per_token * (depth + len(found["token_seconds"]) / 2)
    seconds, calls = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
    for op in found["ops"]:
        name = part_of(op["op"], op["sources"])
        seconds[name] += op["seconds"] * token_seconds / single
        calls[name] += op["calls"]
    parts = (Part(name, seconds[name], sizes[name], calls[name]) for name in PARTS)
    ordered = sorted(parts, key=lambda part: -part.seconds)
    return Profile(depth, token_seconds, single, tuple(ordered))


def part_of(op: str, sources: Sequence[str]) -> str:
    """The part of PLM an operation belongs to, by the weights it reads, else by what it is."""
    if op in _COPIES:
        return "rest"
    for source in sources:
        role = _ROLE.match(source)
        if role and role[1] in _PART_OF_ROLE:
            return _PART_OF_ROLE[role[1]]
    if any(source.startswith("cache_") for source in sources) and op == "MUL_MAT":
        return "attention"
    return _PART_OF_OP.get(op, "rest")


def part_bytes(header: GgufHeader, live: float | None) -> dict[str, float]:
    """Bytes of weights each part reads for a token; `live` is the share of `ffn_down`'s rows."""
    sizes = dict.fromkeys(PARTS, 0.0)
    is_untied = any(tensor.name == "output.weight" for tensor in header.tensors)
    for tensor in header.tensors:
        role = _ROLE.match(tensor.name)
        part = _PART_OF_ROLE.get(role[1], "rest") if role else "rest"
        if tensor.name == "token_embd.weight" and is_untied:
            continue  # one row of it, as a lookup
        is_sparse = live is not None and tensor.name.endswith(".ffn_down.weight")
        sizes[part] += tensor.size_bytes * (live if is_sparse and live is not None else 1.0)
    return sizes
