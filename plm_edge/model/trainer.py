"""The training loop: pre-training and supervised fine-tuning differ only in their shards.

One process resumed after a kill continues bit for bit: weights and moments are stored in float32,
and the batch of a step depends on the step alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.model import run_state, shards, start
from plm_edge.model.batches import Batch, Batches, fixed_windows
from plm_edge.model.metrics import open_metrics
from plm_edge.model.parallel import Strategy, World, spread, total, world
from plm_edge.model.plm import PlmModel
from plm_edge.model.recipe import TrainRecipe, differences
from plm_edge.model.sparsity import ActivationPenalty

VALIDATION_ROWS = 64
# A smoothed loss this far (in nats) above the best one seen does not come back.
DIVERGED_NATS = 3.0

OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """A recipe applied to data, and where the run lives."""

    recipe: TrainRecipe
    data: Path
    run: Path
    start_from: Path | None = None
    strategy: Strategy = "ddp"
    stop_after: int | None = None  # steps of this call; the run is resumed by the next


@dataclass
class Health:
    """Watches the loss: NaN and divergence end a run before they cost a night."""

    smoothed: float = math.nan
    best: float = math.inf

    def check(self, loss: float, step: int, run: Path) -> None:
        """Raise with the last good checkpoint named."""
        self.smoothed = loss if math.isnan(self.smoothed) else 0.9 * self.smoothed + 0.1 * loss
        self.best = min(self.best, self.smoothed)
        if math.isfinite(loss) and self.smoothed < self.best + DIVERGED_NATS:
            return
        known = run_state.checkpoints(run)
        word = "diverged" if math.isfinite(loss) else "is not a number"
        raise PlmEdgeError(
            f"{run}: the loss {word} at step {step} ({loss:.4g})",
            hint=f"last good checkpoint: {known[-1] if known else 'none'}; lower schedule.peak",
        )


@dataclass
class Trainer:
    """Holds what a run needs between steps."""

    job: Job
    place: World
    model: Any = field(init=False)
    optimizer: Any = field(init=False)
    batches: Batches = field(init=False)
    penalty: ActivationPenalty | None = None
    health: Health = field(default_factory=Health)
    step: int = 0

    def __post_init__(self) -> None:
        recipe, index = self.job.recipe, shards.read_index(self.job.data)
        if index["vocab_size"] != recipe.shape.vocab_size:
            raise InputError(
                f"{self.job.data}: shards of a tokenizer with {index['vocab_size']} ids, "
                f"the recipe's shape has {recipe.shape.vocab_size}"
            )
        self.tokenizer_sha256 = index["tokenizer_sha256"]
        self.batches = Batches.open(recipe, self.job.data)
        self.model = spread(self._fresh_model(), self.place, self.job.strategy)
        if recipe.sparsity.penalty > 0:
            self.penalty = ActivationPenalty(self.model)
        self.optimizer = _optimizer(self.model, recipe)
        self._resume()

    def _fresh_model(self) -> PlmModel:
        recipe = self.job.recipe
        if self.job.start_from is None:
            model = PlmModel(recipe.shape)
            model.initialize(recipe.seed, recipe.initializer_std)
            return model
        found = start.load(self.job.start_from)
        if found.model.shape != recipe.shape:
            changed = differences(asdict(recipe.shape), asdict(found.model.shape))
            raise InputError(
                f"{self.job.start_from}: its shape is not the recipe's: " + "; ".join(changed)
            )
        start.require_tokenizer(found, self.job.start_from, self.tokenizer_sha256, self.job.data)
        return found.model

    def _resume(self) -> None:
        run_state.drop_leftovers(self.job.run)
        known = run_state.checkpoints(self.job.run)
        if not known:
            return
        info = run_state.read_info(known[-1])
        run_state.same_recipe(self.job.run, info, self.job.recipe)
        if info.tokenizer_sha256 != self.tokenizer_sha256:
            raise InputError(f"{self.job.run}: was started with another tokenizer")
        run_state.restore(known[-1], self.model, self.optimizer)
        self.step = info.step

    def train(self, on_step: OnStep) -> None:
        """Run to the recipe's last step (or `stop_after`), saving on the way and at the end."""
        last = self.job.recipe.steps
        if self.job.stop_after is not None:
            last = min(last, self.step + self.job.stop_after)
        writer = self.place.is_writer
        with open_metrics(self.job.run, self.step, is_writer=writer) as metrics:
            while self.step < last:
                row = self._step_and_save(last)
                if metrics is not None:
                    metrics.write(row)
                    on_step(row)

    def _step_and_save(self, last: int) -> dict[str, Any]:
        recipe = self.job.recipe
        row = self._one_step()
        self.step += 1
        if self.step % recipe.validate_every == 0 or self.step == recipe.steps:
            row |= self.validate()
        if self.step % recipe.save_every == 0 or self.step == last:
            self._save()
        return row

    def _one_step(self) -> dict[str, Any]:
        recipe, began = self.job.recipe, time.monotonic()
        rate = recipe.schedule.rate(self.step, recipe.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        batch = self.batches.at(self.step, self.place.rank, self.place.size)
        loss = activity = 0.0
        for micro in batch.micro_batches(recipe.batch.micro):
            part = self._loss(micro)
            loss += float(part.detach())
            if self.penalty is not None:
                mean = self.penalty.take() * (len(micro.inputs) / recipe.batch.sequences)
                activity += float(mean.detach())
                part = part + mean * recipe.sparsity.weight(self.step, recipe.steps)
            # DDP and FSDP average gradients over processes; the loss is a sum over all of them.
            (part * self.place.size).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.optimizer.clip)
        loss = total(loss, self.place)
        self.health.check(loss, self.step, self.job.run)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "step": self.step,
            "phase": recipe.phase_at(self.step).name,
            "loss": loss,
            "activity": activity,
            "rate": rate,
            "gradient_norm": float(norm),
            "tokens": (self.step + 1) * recipe.batch.tokens,
            "tokens_per_second": recipe.batch.tokens / (time.monotonic() - began),
        }

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Summed cross-entropy of the counted targets ÷ their number over all processes."""
        device = self.place.device
        kind = device.split(":")[0]
        mixed = self.job.recipe.precision == "bf16"
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=mixed):
            logits = self.model(batch.inputs.to(device))
        wanted = batch.targets.to(device).masked_fill(~batch.counts.to(device), -100)
        losses = F.cross_entropy(
            logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
        )
        return losses / batch.total_counted

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Loss on held-out text, and the share of zero activations per layer."""
        name = self.job.recipe.validation
        if name not in shards.read_index(self.job.data)["tokens"]:
            return {}
        self.model.eval()
        shard = shards.open_shard(self.job.data, name)
        batch = fixed_windows(shard, self.job.recipe.batch.length, VALIDATION_ROWS)
        micro = self.job.recipe.batch.micro or 8
        loss = sum(float(self._loss(part)) for part in batch.micro_batches(micro))
        row: dict[str, Any] = {"validation_loss": loss}
        if isinstance(self.model, PlmModel):
            row["zero_fractions"] = self.model.zero_fractions(
                batch.inputs[:8].to(self.place.device)
            )
        return row

    def _save(self) -> None:
        recipe = self.job.recipe
        info = run_state.RunInfo(
            self.step, run_state.plain(recipe), self.tokenizer_sha256, asdict(recipe.shape)
        )
        run_state.save(
            self.job.run, self.model, self.optimizer, info, is_writer=self.place.is_writer
        )


def _optimizer(model: Any, recipe: TrainRecipe) -> Any:
    settings = recipe.optimizer
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},  # norms are scales, not directions
    ]
    return torch.optim.AdamW(
        groups,
        lr=recipe.schedule.peak,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,  # one pass over each weight; where a step is small, half of its time
    )


def run_job(job: Job, on_step: OnStep, threads: int = 0) -> None:
    """Train in this process, which may be one of many that torchrun started."""
    if threads:
        torch.set_num_threads(threads)
    with world() as place:
        Trainer(job, place).train(on_step)
