"""Live neurons from the engine's own lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench import live
from plm_edge.bench.plan import Side
from plm_edge.engine.cache import Engine
from tests.quantize.tiny import write_model


def test_lines_become_shares() -> None:
    text = (
        "load: something\n"
        "plm-live blk.1.ffn_down.weight 30 100\n"
        "plm-live blk.0.ffn_down.weight 10 100\n"
        "plm-live blk.1.ffn_down.weight 10 100\n"
    )
    found = live.parse(text)
    assert found is not None
    assert dict(found.layers) == {0: 0.1, 1: 0.2}
    assert found.fraction == pytest.approx(50 / 300)


@pytest.mark.parametrize("text", ["", "plm-live x 1 2", "plm-live blk.0.ffn_down.weight 0 0"])
def test_no_counts_are_none(text: str) -> None:
    assert live.parse(text) is None


def test_the_engine_counts_every_layer(tmp_path: Path, engine: Engine) -> None:
    """Gaussian weights without a bias: half of the neurons fire."""
    side = Side("edge", write_model(tmp_path / "m.gguf", dtype="q8_0"), 1)
    found = live.measure(side, engine)
    assert found is not None
    assert sorted(found.layers) == [0, 1, 2]
    assert 0.35 < found.fraction < 0.65
