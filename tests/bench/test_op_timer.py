"""The timer on real engines: every weight is seen, nothing is free, depth is carried over."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from plm_edge.bench import op_timer, profile
from plm_edge.bench.op_timer import Clock, Tensor
from plm_edge.bench.plan import Side
from plm_edge.engine.cache import Engine
from tests.quantize.tiny import SHAPE, tensor_shapes, write_model


@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_every_matrix_is_timed(
    tmp_path: Path, engine: Engine, stock_engine: Engine, layout: str
) -> None:
    path = write_model(tmp_path / "ein ö.gguf", layout=layout, dtype="q8_0")
    is_edge = layout == "edge"
    side = Side("edge", path, 1) if is_edge else Side("stock", path, 1, flash="off")
    found = profile.measure(side, engine if is_edge else stock_engine, depth=40, tokens=3)
    seen = {source for op in found["ops"] for source in op["sources"]}
    assert {name for name in tensor_shapes(SHAPE, layout) if name.endswith("weight")} <= seen
    assert len(found["token_seconds"]) == 3
    assert all(seconds > 0 for seconds in found["token_seconds"])
    assert found["start_seconds"] > 0
    heads = [op for op in found["ops"] if op["op"] != "GET_ROWS"]
    assert sum("token_embd.weight" in op["sources"] for op in heads) == 1


def test_a_median_keeps_interruptions_out() -> None:
    assert op_timer.per_token([2.0, 3.0, 900.0], 3, 1.0) == 2.0
    assert op_timer.per_token([2.0] * 6, 3, 1.0) == 2.0
    assert op_timer.per_token([1.0], 1, 2.0) == 0.0


def test_start_up_is_what_idle_operations_cost() -> None:
    idle = {("VIEW", ("a",)): [1.0, 3.0], ("RESHAPE", ("b",)): [2.0], ("MUL", ("c",)): [50.0]}
    assert op_timer.start_seconds(idle) == 2.0
    assert op_timer.start_seconds({("MUL", ()): [1.0]}) == 0.0


def test_the_clock_sleeps_until_it_is_on_and_sees_through_views() -> None:
    weight = Tensor(name=b"blk.0.ffn_up.weight")
    view = Tensor(name=b"a view", view_src=ctypes.pointer(weight))
    node = Tensor(op=3, name=b"out")
    node.src[0] = ctypes.pointer(view)
    clock = Clock(lambda number: b"MUL_MAT" if number == 3 else b"NONE")
    address = ctypes.addressof(node)
    assert not clock(address, True, None)
    clock.is_on = True
    assert clock(address, True, None)
    assert clock(address, False, None)
    assert list(clock.seconds) == [("MUL_MAT", ("blk.0.ffn_up.weight",))]
