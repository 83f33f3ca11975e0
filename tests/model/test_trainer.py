"""Training for real on a tiny model: learning, exact resume, two processes, what stops a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`: make test WITH_TORCH=1")
torch.set_num_threads(1)  # threads only wait for each other on tensors this small

from safetensors.torch import load_file  # noqa: E402

from plm_edge import results  # noqa: E402
from plm_edge.errors import InputError, PlmEdgeError  # noqa: E402
from plm_edge.model import run_state, shards  # noqa: E402
from plm_edge.model.parallel import World  # noqa: E402
from plm_edge.model.recipe import Batch, Part, Phase, Sparsity, TrainRecipe  # noqa: E402
from plm_edge.model.schedule import Schedule  # noqa: E402
from plm_edge.model.trainer import Job, Trainer  # noqa: E402
from plm_edge.shape import PlmShape  # noqa: E402
from tests.killed import run_killed  # noqa: E402

TINY = PlmShape(32, 2, 2, 16, 8, 8, 8, 64, 64, 64, 10000.0, 1e-6)
RECIPE = TrainRecipe(
    description="tiny",
    stage="pretrain",
    steps=12,
    batch=Batch(sequences=4, length=16, micro=2),
    phases=(Phase("one", 0.5, (Part("text"),)), Phase("two", 0.5, (Part("text"), Part("talk")))),
    schedule=Schedule(peak=1e-2, warmup_share=0.1),
    shape=TINY,
    seed=7,
    precision="f32",
    validate_every=6,
    save_every=4,
)
RECIPE_TOML = """schema = 1
description = "tiny"
stage = "pretrain"
steps = {steps}
seed = 7
precision = "f32"
validate_every = 6
save_every = 4
batch = {{ sequences = 4, length = 16, micro = {micro} }}
phases = [{{ name = "one", share = 1.0, mixture = [{{ shard = "text" }}] }}]
schedule = {{ peak = 1e-2, warmup_share = 0.1 }}
sparsity = {{ penalty = 0.1 }}
[shape]
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 8
v_head_dim = 8
intermediate_size = 64
vocab_size = 64
max_position_embeddings = 64
rope_theta = 10000.0
rms_norm_eps = 1e-6
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Shards of a stream with something to learn: a repeating count, and marked answers."""
    folder = tmp_path / "data"
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    count = [i % 60 for i in range(900)]
    talk: list[tuple[list[int], list[bool] | None]] = [
        ([1, 2, 3, 4, 5, 6] * 3, [False, False, False, True, True, True] * 3)
    ] * 20
    counts = {
        "text": shards.write(folder, "text", [(count, None)], 64),
        "talk": shards.write(folder, "talk", talk, 64),
        "validation": shards.write(folder, "validation", [(count[:200], None)], 64),
    }
    shards.write_index(folder, tmp_path / "tokenizer.json", 64, counts)
    return folder


def train(recipe: TrainRecipe, data: Path, run: Path, stop: int | None = None) -> list[Any]:
    rows: list[Any] = []
    Trainer(Job(recipe, data, run, stop_after=stop), World()).train(rows.append)
    return rows


def losses(run: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in results.read(run / "metrics.jsonl").rows}


def test_the_loss_falls_and_validation_is_reported(data: Path, tmp_path: Path) -> None:
    rows = train(replace(RECIPE, steps=40), data, tmp_path / "run")
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert [row["step"] for row in rows if "validation_loss" in row] == [5, 11, 17, 23, 29, 35, 39]
    assert len(rows[-1]["zero_fractions"]) == 2
    assert (rows[0]["phase"], rows[-1]["phase"]) == ("one", "two")


def test_a_resumed_run_continues_bit_for_bit(data: Path, tmp_path: Path) -> None:
    train(RECIPE, data, tmp_path / "whole")
    for _ in range(3):
        train(RECIPE, data, tmp_path / "pieces", stop=4)
    assert losses(tmp_path / "pieces") == losses(tmp_path / "whole")
    ends = [run_state.checkpoints(tmp_path / name)[-1] for name in ("whole", "pieces")]
    whole, pieces = (load_file(end / "model.safetensors") for end in ends)
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)
    assert len(run_state.checkpoints(tmp_path / "whole")) == run_state.KEEP


def run_cli(recipe: Path, data: Path, run: Path, *launcher: str) -> list[str]:
    return [
        *(launcher or (sys.executable, "-m")),
        "plm_edge",
        "--overlay",
        str(recipe.parent.parent),
        "train",
        "run",
        recipe.stem,
        "--data",
        str(data),
        "-o",
        str(run),
        "--threads",
        "1",
    ]


def write_recipe(folder: Path, steps: int, micro: int = 2) -> Path:
    path = folder / "overlay" / "training" / "tiny.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RECIPE_TOML.format(steps=steps, micro=micro), encoding="utf-8")
    return path


def test_kill_9_and_resume_gives_the_same_curve(data: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=60)
    subprocess.run(run_cli(recipe, data, tmp_path / "whole"), check=True, capture_output=True)
    run_killed(9, *run_cli(recipe, data, tmp_path / "killed")[3:])
    assert len(losses(tmp_path / "killed")) == 9
    subprocess.run(run_cli(recipe, data, tmp_path / "killed"), check=True, capture_output=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_like_one(data: Path, tmp_path: Path, strategy: str) -> None:
    recipe = write_recipe(tmp_path, steps=6, micro=1)
    subprocess.run(run_cli(recipe, data, tmp_path / "one"), check=True, capture_output=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", "-m"]
    command = [*run_cli(recipe, data, tmp_path / "two", *launcher), "--strategy", strategy]
    # Over the loopback, whatever this machine's name leads to.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    # The same sums in another order: float32 rounding, grown a little by six steps of AdamW.
    assert [two[step] for step in one] == pytest.approx(list(one.values()), rel=2e-4)


def test_a_changed_recipe_is_refused_with_a_difference(data: Path, tmp_path: Path) -> None:
    train(RECIPE, data, tmp_path / "run", stop=4)
    with pytest.raises(InputError, match=r"schedule\.peak: 0\.01 → 0\.02"):
        train(
            replace(RECIPE, schedule=Schedule(peak=2e-2, warmup_share=0.1)), data, tmp_path / "run"
        )


def test_another_tokenizer_is_refused(data: Path, tmp_path: Path) -> None:
    train(RECIPE, data, tmp_path / "run", stop=4)
    index = json.loads((data / shards.INDEX).read_text(encoding="utf-8"))
    (data / shards.INDEX).write_text(json.dumps({**index, "tokenizer_sha256": "x"}), "utf-8")
    with pytest.raises(InputError, match="another tokenizer"):
        train(RECIPE, data, tmp_path / "run")


def test_not_a_number_stops_the_run_and_names_the_last_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(RECIPE, data, run, stop=4)
    trainer = Trainer(Job(RECIPE, data, run), World())
    with torch.no_grad():
        trainer.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(PlmEdgeError, match="is not a number at step 4") as caught:
        trainer.train(lambda row: None)
    assert "step-000004" in (caught.value.hint or "")


def test_divergence_stops_the_run(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(Job(RECIPE, data, tmp_path / "run"), World())
    trainer.health.best = -100.0
    with pytest.raises(PlmEdgeError, match="diverged at step 0"):
        trainer.train(lambda row: None)


def test_a_rate_far_too_high_stops_the_run_and_names_the_last_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    wild = replace(RECIPE, steps=60, save_every=1, schedule=Schedule(peak=5.0, warmup_share=0.1))
    with pytest.raises(PlmEdgeError, match=r"diverged at step|is not a number at step") as caught:
        train(wild, data, run)
    (newest,) = run_state.checkpoints(run)[-1:]
    assert str(newest) in (caught.value.hint or "")
    assert run_state.read_info(newest).step < 60


def test_fine_tuning_starts_from_the_weights_of_a_run(data: Path, tmp_path: Path) -> None:
    train(RECIPE, data, tmp_path / "base")
    tuned = replace(RECIPE, stage="sft", steps=1, phases=(Phase("sft", 1.0, (Part("talk"),)),))
    job = Job(tuned, data, tmp_path / "sft", start_from=tmp_path / "base")
    trainer = Trainer(job, World())
    newest = run_state.checkpoints(tmp_path / "base")[-1]
    wanted = load_file(newest / "model.safetensors")
    assert all(torch.equal(v, wanted[n]) for n, v in trainer.model.state_dict().items())
    before = trainer.validate()["validation_loss"]
    trainer.train(lambda row: None)
    assert run_state.latest_step(tmp_path / "sft") == 1
    assert trainer.validate()["validation_loss"] != before


def test_a_start_of_another_shape_is_refused_with_the_difference(
    data: Path, tmp_path: Path
) -> None:
    train(RECIPE, data, tmp_path / "base", stop=1)
    wider = replace(RECIPE, shape=replace(TINY, intermediate_size=128))
    with pytest.raises(InputError, match=r"intermediate_size: 64 → 128"):
        Trainer(Job(wider, data, tmp_path / "run", start_from=tmp_path / "base"), World())


def test_the_penalty_is_reported_and_makes_zeros(data: Path, tmp_path: Path) -> None:
    longer = replace(RECIPE, steps=30, validate_every=30)
    plain = train(longer, data, tmp_path / "plain")
    pushed = train(replace(longer, sparsity=Sparsity(penalty=3.0)), data, tmp_path / "pushed")
    assert plain[0]["activity"] == 0.0
    assert 0 < pushed[-1]["activity"] < pushed[0]["activity"]
    assert sum(pushed[-1]["zero_fractions"]) > sum(plain[-1]["zero_fractions"]) + 0.2


def test_a_full_disk_leaves_the_last_checkpoint_intact(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(RECIPE, data, run, stop=4)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_state, "save_file", full)
    with pytest.raises(PlmEdgeError, match="the disk is full"):
        train(RECIPE, data, run)
    (kept,) = run_state.checkpoints(run)
    assert run_state.read_info(kept).step == 4
    assert [p.name for p in run.iterdir() if p.name.endswith(".part")] == []


def test_a_shard_smaller_than_a_row_is_refused(data: Path, tmp_path: Path) -> None:
    long = replace(RECIPE, batch=Batch(4, 64), phases=(Phase("one", 1.0, (Part("talk"),)),))
    index = json.loads((data / shards.INDEX).read_text(encoding="utf-8"))
    index["tokens"]["talk"] = shards.write(data, "talk", [([1] * 20, None)], 64)
    (data / shards.INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match="20 tokens, expected at least 65"):
        train(long, data, tmp_path / "run")
