from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType

from plm_edge import paths
from plm_edge.convert.pipeline import convert, prepare
from plm_edge.errors import InputError, PlmEdgeError, SpaceError, UsageError
from plm_edge.gguf_header import GgufTensor, read_header
from plm_edge.shape import PlmShape
from tests.convert.samples import TINY, change_json, make_checkpoint, read_weights

LAYER = "model.layers.1."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "PLM tiny, größer", dtype="f32")


def values_of(path: Path, tensor: GgufTensor) -> np.ndarray:
    content = path.read_bytes()[tensor.offset : tensor.offset + tensor.size_bytes]
    data = np.frombuffer(content, np.uint8).reshape(*tensor.shape[:-1], -1)
    return gguf.quants.dequantize(data, GGMLQuantizationType[tensor.type.upper()])


@pytest.mark.parametrize(("kind", "tolerance"), [("f32", 0), ("f16", 5e-4), ("q8_0", 5e-3)])
def test_edge_layout_holds_the_checkpoints_values(
    folder: Path, tmp_path: Path, kind: str, tolerance: float
) -> None:
    target = tmp_path / "plm.gguf"
    convert(folder, target, type_name=kind)
    header, weights = read_header(target), read_weights(folder)
    ours = {name: values_of(target, tensor) for name, tensor in header.by_name.items()}
    kv_b = weights[LAYER + "self_attn.kv_b_proj.weight"].reshape(TINY.num_attention_heads, -1, 32)
    expected = {
        "token_embd": weights["model.embed_tokens.weight"],
        "blk.1.ffn_down": weights[LAYER + "mlp.down_proj.weight"].T,
        "blk.1.attn_k_b": kv_b[:, : TINY.qk_nope_head_dim].transpose(0, 2, 1),
        "blk.1.attn_v_b": kv_b[:, TINY.qk_nope_head_dim :],
        "blk.1.attn_kv_a_norm": weights[LAYER + "self_attn.kv_a_layernorm.weight"],
    }
    for name, values in expected.items():
        found = ours[name + ".weight"]
        limit = tolerance * float(abs(values).max())
        np.testing.assert_allclose(found, values, rtol=0, atol=limit, err_msg=name)


def test_the_metadata_says_shape_layout_and_nothing_of_random(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "edge.gguf")
    metadata = read_header(tmp_path / "edge.gguf").metadata
    shape = PlmShape.from_metadata(metadata, "edge.gguf")
    epsilon = float(np.float32(TINY.rms_norm_eps))  # GGUF keeps it as f32
    assert shape == replace(TINY, rms_norm_eps=epsilon)
    assert metadata["plm.tensor_data_layout"] == "edge"
    assert metadata["plm.attention.key_length"] == TINY.qk_head_dim
    assert "plm_edge.random" not in metadata
    convert(folder, tmp_path / "stock.gguf", layout="stock")
    assert "plm.tensor_data_layout" not in read_header(tmp_path / "stock.gguf").metadata


def test_random_weights_are_marked(folder: Path, tmp_path: Path) -> None:
    change_json(folder / "config.json", lambda c: c.update(plm_edge_random=True))
    report = convert(folder, tmp_path / "plm.gguf")
    assert report.is_random
    assert read_header(tmp_path / "plm.gguf").metadata["plm_edge.random"] is True


def test_two_runs_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        convert(folder, tmp_path / name, type_name="q8_0", verify=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_preparing_writes_nothing_and_knows_the_size_to_the_byte(
    folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out" / "plm.gguf"
    planned = prepare(folder, target, type_name="q8_0").report
    assert not target.parent.exists()
    convert(folder, target, type_name="q8_0")
    assert planned.size_bytes == target.stat().st_size
    assert sum(planned.types.values()) == planned.tensors


def test_too_little_disk_is_said_before_anything_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda path: usage)
    target = tmp_path / "out" / "plm.gguf"
    with pytest.raises(SpaceError, match=r"has 0\.00 GB free"):
        convert(folder, target)
    assert not target.parent.exists()


def test_a_disk_that_fills_up_leaves_nothing(folder: Path) -> None:
    """/dev/full is no folder, so the limit on file sizes plays the full disk."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from plm_edge.convert.pipeline import convert; from plm_edge.errors import PlmEdgeError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: convert(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except PlmEdgeError as error: print(error.message)\n"
    )
    target = folder.parent / "out" / "plm.gguf"
    command = [sys.executable, "-c", script, str(folder), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == f"{target}: cannot write: File too large", done.stderr
    assert list(target.parent.iterdir()) == []


def test_killed_half_way_there_is_no_file_under_the_final_name(
    folder: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, time; from pathlib import Path; from plm_edge.convert import pipeline\n"
        "def slow(done, total):\n"
        "    if done: print('half', flush=True); time.sleep(60)\n"
        "pipeline.convert(Path(sys.argv[1]), Path(sys.argv[2]), progress=slow)\n"
    )
    target = tmp_path / "out" / "plm.gguf"
    command = [sys.executable, "-c", script, str(folder), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    convert(folder, target)
    assert target.exists()


def test_a_truncated_checkpoint_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"model\.safetensors: ends inside tensor"):
        convert(folder, tmp_path / "out" / "plm.gguf")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layout": "best"}, UsageError, "layout 'best', expected edge or stock"),
        ({"type_name": "q4_0"}, UsageError, "type 'q4_0', expected one of f32"),
    ],
)
def test_wrong_wishes_are_refused(
    folder: Path, tmp_path: Path, arguments: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        convert(folder, tmp_path / "plm.gguf", **arguments)


def test_sources_and_targets_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        convert(tmp_path / "absent", tmp_path / "plm.gguf")
    with pytest.raises(InputError, match="neither a checkpoint folder nor a GGUF"):
        convert(folder / "config.json", tmp_path / "plm.gguf")
    with pytest.raises(InputError, match="is a folder"):
        convert(folder, tmp_path)
    with pytest.raises(UsageError, match="is a file of the checkpoint itself"):
        convert(folder, folder / "model.safetensors")
    convert(folder, folder / "plm.gguf")
    convert(folder, folder / "plm.gguf")
    convert(folder, tmp_path / "plm.gguf", layout="stock")
    with pytest.raises(UsageError, match="is the source itself"):
        convert(tmp_path / "plm.gguf", tmp_path / "plm.gguf")


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"plm\.gguf: cannot write: "):
        convert(folder, folder / "config.json" / "plm.gguf")


def test_every_flipped_byte_of_the_small_files_is_an_answer(folder: Path, tmp_path: Path) -> None:
    """Configs and tokenizer with a byte changed: converted or refused in one line, no crash."""
    random = np.random.default_rng(0)
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
    for number in range(120):
        path = folder / names[number % len(names)]
        before = path.read_bytes()
        content = bytearray(before)
        content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(content)
        try:
            prepare(folder, tmp_path / "plm.gguf")
        except PlmEdgeError as error:
            assert "\n" not in error.message
        path.write_bytes(before)


@pytest.mark.slow
def test_memory_stays_bounded_and_files_are_not_mapped(tmp_path: Path) -> None:
    """A checkpoint of 0.7 GB: the peak of a process, anonymous and file-backed, below 300 MB."""
    from plm_edge.convert.synth import write_checkpoint

    big = replace(PlmShape(), num_hidden_layers=1)
    write_checkpoint(tmp_path / "big", big, dtype="bf16")
    script = (
        "import sys; from pathlib import Path; from plm_edge.convert.pipeline import convert\n"
        "convert(Path(sys.argv[1]), Path(sys.argv[2]), type_name='q8_0')\n"
        "status = Path('/proc/self/status').read_text()\n"  # ru_maxrss would count our parent
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "big"), str(tmp_path / "big.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert int(done.stdout) < 300_000, done.stderr
