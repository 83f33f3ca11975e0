"""The engine's quantizer writes what the plan says, to the byte, or nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge import paths
from plm_edge.engine.cache import Engine
from plm_edge.errors import InputError, SpaceError, ToolError
from plm_edge.gguf_header import read_header
from plm_edge.quantize import plan as planning
from plm_edge.quantize import quantizer, recipe
from plm_edge.quantize.plan import Plan
from plm_edge.quantize.quantizer import Request
from plm_edge.shape import PlmShape
from tests.quantize.tiny import SHAPE, write_model

NARROW = replace(
    SHAPE, hidden_size=96, kv_lora_rank=64, qk_nope_head_dim=24, v_head_dim=32, vocab_size=33
)


def prepare(source: Path, target: Path, name: str = "q4") -> tuple[Request, Plan]:
    request = Request(read_header(source), target, threads=2)
    return request, planning.make(request.source, recipe.find(name))


@pytest.mark.parametrize("name", ["f16", "q8", "q4", "q4-k"])
@pytest.mark.parametrize("layout", ["edge", "stock"])
@pytest.mark.parametrize("shape", [SHAPE, NARROW], ids=["wide", "narrow"])
def test_size_and_types_are_as_planned(
    tmp_path: Path, engine: Engine, name: str, layout: str, shape: PlmShape
) -> None:
    source = write_model(tmp_path / "with space é.gguf", layout=layout, shape=shape)
    request, plan = prepare(source, tmp_path / "new" / "ö.gguf", name)
    seen: list[tuple[int, int]] = []
    report = quantizer.apply(request, plan, engine, lambda *step: seen.append(step))
    written = read_header(report.path)
    assert report.path.stat().st_size == plan.file_bytes == report.file_bytes
    assert {t.name: t.type for t in written.tensors} == {
        entry.tensor.name: entry.type for entry in plan.tensors
    }
    assert len(seen) == len(plan.tensors)
    assert seen[-1] == (seen[-1][1], seen[-1][1])
    assert os.listdir(tmp_path / "new") == ["ö.gguf"]


def test_metadata_survives_and_texts_end_at_nul(tmp_path: Path, engine: Engine) -> None:
    texts = {"general.note": "cut\0here"}
    source = write_model(tmp_path / "in.gguf", extra_texts=texts)
    request, plan = prepare(source, tmp_path / "out.gguf")
    quantizer.apply(request, plan, engine)
    before, after = request.source.metadata, read_header(tmp_path / "out.gguf").metadata
    assert after.pop("general.quantization_version") == 2
    assert after.pop("general.file_type") == gguf.LlamaFileType.MOSTLY_Q4_0
    assert after.pop("general.note") == "cut"
    assert after == {key: before[key] for key in before if key not in texts}


def test_neuron_major_down_keeps_every_neurons_scale(tmp_path: Path, engine: Engine) -> None:
    """One loud neuron must not drown the silent ones beside it: blocks run along n_embd."""
    path = write_model(tmp_path / "in.gguf", dtype="f32")
    name = "blk.1.ffn_down.weight"
    tensor = read_header(path).by_name[name]
    down = np.memmap(path, np.float32, "r+", tensor.offset, tensor.shape)
    down[7] *= 1e4
    expected = np.array(down)
    down.flush()
    request, plan = prepare(path, tmp_path / "out.gguf", "q8")
    quantizer.apply(request, plan, engine)
    found = next(t for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors if t.name == name)
    values = gguf.dequantize(found.data, found.tensor_type)
    error = np.abs(values - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() < 1 / 127  # half a step of 127 per row; across rows it would be 1


def test_requantizing_needs_a_yes(tmp_path: Path, engine: Engine) -> None:
    source = write_model(tmp_path / "in.gguf", dtype="q8_0")
    request, plan = prepare(source, tmp_path / "out.gguf")
    with pytest.raises(InputError, match="q8_0 already; quantizing 16 tensors twice"):
        quantizer.apply(request, plan, engine)
    assert not (tmp_path / "out.gguf").exists()
    quantizer.apply(replace(request, allow_requantize=True), plan, engine)
    assert read_header(tmp_path / "out.gguf").size_bytes == plan.file_bytes


def test_the_source_is_never_written_over(tmp_path: Path) -> None:
    source = write_model(tmp_path / "in.gguf")
    (tmp_path / "link.gguf").symlink_to(source)
    for target in (source, tmp_path / "link.gguf"):
        with pytest.raises(InputError, match="is the file to read"):
            quantizer.check(*prepare(source, target))
    with pytest.raises(InputError, match="is a folder"):
        quantizer.check(*prepare(source, tmp_path))


def test_a_full_disk_is_said_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, plan = prepare(write_model(tmp_path / "in.gguf"), tmp_path / "out.gguf")
    usage = shutil.disk_usage(tmp_path)._replace(free=plan.file_bytes - 1)
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(SpaceError, match=r"out\.gguf: needs 0\.00 GB"):
        quantizer.check(request, plan)


def test_a_disk_that_fills_up_meanwhile_is_named(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_model(tmp_path / "in.gguf")
    request, plan = prepare(source, tmp_path / "out.gguf")
    with source.open("r+b") as file:
        file.truncate(request.source.size_bytes - 5000)  # makes the quantizer fail
    room = [shutil.disk_usage(tmp_path), shutil.disk_usage(tmp_path)._replace(free=4096)]
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda folder: room.pop(0))
    with pytest.raises(SpaceError, match=r"out\.gguf: the disk is full"):
        quantizer.apply(request, plan, engine)
    assert os.listdir(tmp_path) == ["in.gguf"]


def test_an_unwritable_folder_is_named(tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "file").write_text("")
    request, plan = prepare(write_model(tmp_path / "in.gguf"), tmp_path / "file" / "out.gguf")
    with pytest.raises(InputError, match=r"file/out\.gguf: cannot write"):
        quantizer.apply(request, plan, engine)


def test_a_failing_quantizer_leaves_nothing(tmp_path: Path, engine: Engine) -> None:
    source = write_model(tmp_path / "in.gguf")
    request, plan = prepare(source, tmp_path / "out" / "x.gguf")
    with source.open("r+b") as file:
        file.truncate(request.source.size_bytes - 5000)
    with pytest.raises(ToolError, match=r"llama-quantize .* ended with status 1"):
        quantizer.apply(request, plan, engine)
    assert os.listdir(tmp_path / "out") == []


def test_a_result_that_is_not_as_planned_is_thrown_away(tmp_path: Path, engine: Engine) -> None:
    request, plan = prepare(write_model(tmp_path / "in.gguf"), tmp_path / "out" / "x.gguf")
    lying = (*plan.tensors[:-1], replace(plan.tensors[-1], type="q5_K"))
    with pytest.raises(ToolError, match=r"llama-quantize made .* expected q5_K"):
        quantizer.verify(_written(request, plan, engine), replace(plan, tensors=lying))
    wrong_size = replace(plan, file_bytes=plan.file_bytes + 32)
    with pytest.raises(ToolError, match=f"wrote {plan.file_bytes} bytes"):
        quantizer.apply(request, wrong_size, engine)
    assert os.listdir(tmp_path / "out") == ["kept.gguf"]


def _written(request: Request, plan: Plan, engine: Engine) -> Path:
    target = request.target.with_name("kept.gguf")
    return quantizer.apply(replace(request, target=target), plan, engine).path


def test_killed_half_way_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    """The process dies inside the quantizer; a slow stand-in makes sure that it is inside."""
    write_model(tmp_path / "in.gguf")
    tool = tmp_path / "bin" / "llama-quantize"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\ntouch "$(dirname "$0")/started"\nexec sleep 5\n')
    tool.chmod(0o755)
    script = f"""
from pathlib import Path
from unittest.mock import Mock
from plm_edge.gguf_header import read_header
from plm_edge.quantize import plan, quantizer, recipe
folder = Path({str(tmp_path)!r})
request = quantizer.Request(read_header(folder / "in.gguf"), folder / "out.gguf")
engine = Mock(tool=lambda name: folder / "bin" / name, run_environment=dict)
quantizer.apply(request, plan.make(request.source, recipe.find("q4")), engine)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (tool.parent / "started").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.gguf").exists()
