"""Operations land in the right part; times and bytes add up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plm_edge import shell
from plm_edge.bench import profile, roofline
from plm_edge.bench.plan import Side
from plm_edge.errors import ToolError
from plm_edge.gguf_header import read_header
from tests.quantize.tiny import write_model


@pytest.mark.parametrize(
    ("op", "sources", "part"),
    [
        ("PLM", ["blk.3.ffn_up.weight", "x", "blk.3.ffn_down.weight"], "ffn"),
        ("SQR", ["relu-3"], "ffn"),
        ("MUL_MAT", ["blk.3.attn_q.weight", "x"], "projections"),
        ("PLM", ["q", "cache_k_l0", "mask", "blk.0.attn_k_b.weight"], "attention"),
        ("MUL_MAT", ["cache_k_l0", "q"], "attention"),
        ("SOFT_MAX", ["kq-0"], "attention"),
        ("SET_ROWS", ["kv", "ids", "cache_k_l0"], "rest"),
        ("MUL_MAT", ["token_embd.weight", "x"], "head"),
        ("GET_ROWS", ["token_embd.weight", "ids"], "rest"),
        ("MUL", ["norm", "blk.0.ffn_norm.weight"], "norms"),
        ("RMS_NORM", ["x"], "norms"),
        ("ADD", ["a", "b"], "rest"),
    ],
)
def test_parts(op: str, sources: list[str], part: str) -> None:
    assert profile.part_of(op, sources) == part


def op(name: str, sources: list[str], seconds: float) -> dict[str, Any]:
    return {"op": name, "sources": sources, "calls": 1.0, "seconds": seconds}


def test_times_add_up_to_the_token_and_bytes_to_the_roofline(tmp_path: Path) -> None:
    header = read_header(write_model(tmp_path / "m.gguf"))
    reads = roofline.reads(header, latent=True, cache_type="f16", live_fraction=0.25)
    ops = [op("MUL_MAT", ["blk.0.attn_q.weight"], 3.0), op("ADD", ["a"], 1.0)]
    found = profile.gather(
        {"token_seconds": [2.0, 9.0, 2.0, 2.0], "ops": ops}, 100, header, reads, 0.25
    )
    assert (found.token_seconds, found.single_seconds) == (2.0, 4.0)
    times = {part.name: part.seconds for part in found.parts}
    assert (times["projections"], times["rest"]) == (1.5, 0.5)
    assert sum(times.values()) == found.token_seconds
    assert [part.name for part in found.parts][:2] == ["projections", "rest"]
    assert found.size_bytes == pytest.approx(reads.bytes_per_token(102))


def test_an_untied_embedding_is_not_read_as_a_matrix(tmp_path: Path) -> None:
    tied = read_header(write_model(tmp_path / "m.gguf"))
    assert profile.part_bytes(tied, None)["head"] == tied.by_name["token_embd.weight"].size_bytes
    whole, sparse = profile.part_bytes(tied, None)["ffn"], profile.part_bytes(tied, 0.0)["ffn"]
    assert sparse == whole / 2


@pytest.mark.parametrize("printed", ["", "no json", "[]", '{"ops": []}'])
def test_a_timer_that_saw_nothing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    monkeypatch.setattr(shell, "capture", lambda *words, **options: SimpleNamespace(stdout=printed))
    engine: Any = SimpleNamespace(library_environment=dict)
    with pytest.raises(ToolError, match=r"printed no JSON|saw no operation"):
        profile.measure(Side("edge", Path("m"), 1), engine, 0, 1)


def test_a_part_without_bytes_has_no_rate() -> None:
    assert profile.Part("rest", 1.0, 0.0, 3).gigabytes_per_second is None
    assert profile.Part("head", 2.0, 4e9, 1).gigabytes_per_second == 2.0
