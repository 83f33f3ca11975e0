"""Synthesized checkpoints: shape, sparsity, sameness, labels, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from plm_edge.cli import app
from plm_edge.convert.synth import SHAPES, tensor_shapes, weight_bytes, write_checkpoint
from plm_edge.errors import InputError, SpaceError, UsageError

TINY = SHAPES["tiny"]


def tensors(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    with safe_open(folder / "model.safetensors", "np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}


@pytest.mark.parametrize(("dtype", "stored"), [("bf16", "BF16"), ("f16", "F16"), ("f32", "F32")])
def test_every_tensor_has_its_shape_and_type(tmp_path: Path, dtype: str, stored: str) -> None:
    write_checkpoint(tmp_path / "model", TINY, dtype=dtype)
    expected = {name: (shape, stored) for name, shape in tensor_shapes(TINY).items()}
    assert tensors(tmp_path / "model") == expected


def test_weights_take_the_bytes_that_were_announced(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", TINY)
    header = int.from_bytes((tmp_path / "model/model.safetensors").read_bytes()[:8], "little")
    size = (tmp_path / "model/model.safetensors").stat().st_size
    assert size == 8 + header + weight_bytes(TINY, "bf16")


def test_true_shape_is_as_large_as_the_published_checkpoint() -> None:
    assert weight_bytes(SHAPES["plm-1.8b"], "bf16") == 2 * 1_825_458_176


@pytest.mark.parametrize("wanted", [0.5, 0.75, 0.909, 0.97])
def test_zero_fraction_is_what_was_asked_in_every_layer(tmp_path: Path, wanted: float) -> None:
    shape = replace(TINY, num_hidden_layers=4)
    report = write_checkpoint(tmp_path / "model", shape, zero_fraction=wanted, seed=3)
    assert len(report.zero_fractions) == 4
    assert report.worst_error < 0.005


def test_same_seed_same_bytes_and_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_checkpoint(tmp_path / name, TINY, seed=seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_config_says_that_the_weights_are_random(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", TINY)
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert config["plm_edge_random"] is True
    assert config["architectures"] == ["PLMForCausalLM"]
    assert config["rope_theta"] == 100000.0
    assert config["eos_token_id"] == config["bos_token_id"] + 2


def test_norm_weights_and_values_are_not_degenerate(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", TINY, dtype="f32")
    with safe_open(tmp_path / "model/model.safetensors", "np") as file:
        norm = file.get_tensor("model.norm.weight")
        up = file.get_tensor("model.layers.1.mlp.up_proj.weight")
    assert (norm < 0).any() and (norm > 0).any()
    assert np.linalg.matrix_rank(up) == TINY.hidden_size


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_checkpoint(
        tmp_path / "model", TINY, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (weight_bytes(TINY, "bf16"),) * 2


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "model", TINY, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_checkpoint(tmp_path, TINY)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "ein Ordner ü", TINY)
    assert (tmp_path / "ein Ordner ü" / "model.safetensors").is_file()


def test_full_disk_is_said_first(tmp_path: Path) -> None:
    huge = replace(SHAPES["plm-1.8b"], num_hidden_layers=1000, intermediate_size=1 << 18)
    with pytest.raises(SpaceError, match="GB free"):
        write_checkpoint(tmp_path / "model", huge)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 0}, "hidden_size = 0"),
        ({"qk_rope_head_dim": 31}, "qk_rope_head_dim = 31"),
        ({"vocab_size": 100}, "vocab_size = 100, expected at least 259"),
    ],
)
def test_impossible_shapes_are_refused(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_checkpoint(tmp_path / "model", replace(TINY, **change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fraction", [0.0, 1.0, -3.0, float("nan")])
def test_impossible_fractions_are_refused(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(UsageError, match=r"expected 0\.01 to 0\.999"):
        write_checkpoint(tmp_path / "model", TINY, zero_fraction=fraction)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["synth", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_command_prints_measured_fractions(tmp_path: Path) -> None:
    status, out, _ = run(str(tmp_path / "model"), "--shape", "tiny", "--layers", "3", "--json")
    assert status == 0
    report = json.loads(out)
    assert report["random"] is True
    assert report["shape"]["num_hidden_layers"] == 3
    assert np.allclose(report["zero_fractions"], 0.909, atol=0.005)


def test_command_labels_its_output_random(tmp_path: Path) -> None:
    _, out, _ = run(str(tmp_path / "model"), "--shape", "tiny")
    assert "random weights" in out


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    status, out, _ = run(str(tmp_path / "model"), "--dry-run")
    assert status == 0
    assert "3.651 GB" in out
    assert list(tmp_path.iterdir()) == []


def test_unknown_shape_is_one_line(tmp_path: Path) -> None:
    status, _, err = run(str(tmp_path / "model"), "--shape", "huge")
    assert status == 2
    assert err == "plm-edge: shape 'huge', expected one of plm-1.8b, nano, tiny\n"
