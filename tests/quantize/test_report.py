"""The plan as people and machines see it."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from plm_edge.gguf_header import read_header
from plm_edge.quantize import plan as planning
from plm_edge.quantize import recipe, report
from tests.quantize.tiny import SHAPE, write_model


def shown(plan: planning.Plan) -> str:
    out = io.StringIO()
    Console(file=out, width=100, _environ={}).print(report.plan_table(plan))
    return out.getvalue()


def test_table_and_rows_tell_the_same(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf")
    plan = planning.make(read_header(path), recipe.find("q4"))
    text = shown(plan)
    for row in report.rows(plan):
        assert f"{row['bytes']:,}" in text
    line = next(line for line in text.splitlines() if "attn_k_b.weight" in line)
    values = SHAPE.num_attention_heads * SHAPE.kv_lora_rank * SHAPE.qk_nope_head_dim
    assert line.split() == [
        *("attn_k_b.weight", "3", "f16", "q8_0", f"{3 * values // 32 * 34:,}", "8.50"),
        line.split()[-1],
    ]
