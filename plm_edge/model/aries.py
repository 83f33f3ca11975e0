"""A preference run: an offline round on given pairs, then online rounds on the model's own answers.

    RUN/round-0.jsonl      the offline pairs, RUN/round-1.jsonl … those of each online round
    RUN/step-000100/ …     checkpoints, as in every run
Killed anywhere, the same command goes on: pairs are written before they are trained on, and drawn
again from the same weights and seed when they were not. One process: a round is minutes.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plm_edge import results
from plm_edge.console import Progress, no_progress
from plm_edge.errors import InputError
from plm_edge.model import preference, run_state, start
from plm_edge.model.dataset import Encoder
from plm_edge.model.metrics import open_metrics
from plm_edge.model.plm import PlmModel
from plm_edge.model.preference import Preference
from plm_edge.model.recipe import PreferenceRecipe
from plm_edge.model.trainer import Health
from plm_edge.paths import write_text_atomic


@dataclass(frozen=True)
class Material:
    """What a run learns from: offline pairs, and questions with the answers they are judged by."""

    offline: Sequence[Preference]
    questions: Sequence[tuple[str, str]]

    def reward(self, question: str, answer: str) -> float:
        """The rule: words shared with the documented answer."""
        return preference.word_f1(answer, dict(self.questions)[question])


@dataclass
class PreferenceTrainer:
    """Holds what a run needs between steps; the reference stays what the run started from."""

    recipe: PreferenceRecipe
    run: Path
    encoder: Encoder
    material: Material
    origin: start.Start
    tokenizer_sha256: str
    model: PlmModel = field(init=False)
    reference: PlmModel = field(init=False)
    optimizer: Any = field(init=False)
    step: int = 0
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.reference = self.origin.model.requires_grad_(False)
        self.model = copy.deepcopy(self.reference).requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.recipe.rate, weight_decay=0.0
        )
        self._resume()

    def _resume(self) -> None:
        run_state.drop_leftovers(self.run)
        known = run_state.checkpoints(self.run)
        if not known:
            return
        info = run_state.read_info(known[-1])
        run_state.same_recipe(self.run, info, self.recipe)
        if info.tokenizer_sha256 != self.tokenizer_sha256:
            raise InputError(f"{self.run}: was started with another tokenizer")
        run_state.restore(known[-1], self.model, self.optimizer)
        self.step = info.step

    def train(self, progress: Progress = no_progress) -> None:
        """Every round that is not done yet; `progress` counts a round's questions, then steps."""
        first = 0
        with open_metrics(self.run, self.step, is_writer=True) as metrics:
            for number in range(1 + self.recipe.online_rounds):
                pairs = self._pairs(number, progress)
                last = first + len(pairs) // self.recipe.pairs_per_step
                while self.step < last:
                    row = self._one_step(number, pairs, first)
                    progress(self.step - first, last - first)
                    if metrics is not None:
                        metrics.write(row)
                    if self.step % self.recipe.save_every == 0 and self.step < last:
                        self._save()
                if run_state.latest_step(self.run) != self.step:
                    self._save()  # a round's end: the next one's answers come from these weights
                first = last

    def _pairs(self, number: int, progress: Progress) -> list[Preference]:
        path = self.run / f"round-{number}.jsonl"
        if path.exists():
            return [Preference(**row) for row in results.read(path).rows]
        found = self._drawn(number, progress) if number else list(self.material.offline)
        lines = "".join(json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in found)
        write_text_atomic(path, lines)
        return found

    def _drawn(self, number: int, progress: Progress) -> list[Preference]:
        recipe = self.recipe
        generator = np.random.default_rng((recipe.seed, number))
        known = [question for question, _ in self.material.questions]
        count = min(recipe.online.questions, len(known))
        chosen = [known[i] for i in generator.choice(len(known), count, replace=False)]
        self.model.eval()
        return preference.online_round(
            self.model,
            self.encoder,
            chosen,
            self.material.reward,
            recipe.online,
            margin=recipe.loss.margin,
            seed=recipe.seed + number,
            progress=progress,
        )

    def _one_step(self, number: int, pairs: list[Preference], first: int) -> dict[str, Any]:
        began, size = time.monotonic(), self.recipe.pairs_per_step
        order = np.random.default_rng((self.recipe.seed, number, 1)).permutation(len(pairs))
        at = (self.step - first) * size
        batch = [pairs[i] for i in order[at : at + size]]
        loss = preference.preference_loss(
            self.model, self.reference, self.encoder, batch, self.recipe.loss
        )
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        value = float(loss.detach())
        self.health.check(value, self.step, self.run)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        row = {"step": self.step, "phase": f"round-{number}", "loss": value}
        row |= {"gradient_norm": float(norm), "seconds": time.monotonic() - began}
        self.step += 1
        return row

    def _save(self) -> None:
        info = run_state.RunInfo(
            self.step,
            run_state.plain(self.recipe),
            self.tokenizer_sha256,
            asdict(self.model.shape),
        )
        run_state.save(self.run, self.model, self.optimizer, info)
