"""lm-evaluation-harness through our adapter: the same items must give the same scores as ours.

The tests that need the extra `harness` are skipped without it.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from plm_edge.errors import InputError, MissingToolError
from plm_edge.eval.tasks import harness, likelihood
from plm_edge.eval.tasks.harness import HarnessRequest
from plm_edge.eval.tasks.items import Choice
from plm_edge.eval.tasks.model import Likelihoods, Prompt
from plm_edge.eval.tasks.spec import TaskSpec
from tests.eval.tasks.examples import TIMING, SaidModel

YAML = """task: own
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
ITEMS = [Choice(str(n), f"question {n}", ("a", "bb and more", "c c"), (n % 3,)) for n in range(12)]


class Formula(SaidModel):
    """Finds a text as probable as a formula over its letters says, however it is asked."""

    def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
        values = [math.sin(zlib.crc32((prompt.text + t).encode())) - len(t) for t in continuations]
        return Likelihoods(tuple(values), (False,) * len(values), TIMING)


@pytest.fixture
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf/datasets"))
    data = tmp_path / "own.jsonl"
    rows = [
        {"question": i.question, "choices": list(i.choices), "gold": i.correct[0]} for i in ITEMS
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "own.yaml").write_text(YAML.format(data=data), encoding="utf-8")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_the_harness_scores_as_we_do(include: Path) -> None:
    (found,) = harness.evaluate(HarnessRequest(("own",), include), Formula())
    spec = TaskSpec("d", "choice", "s", "{question}")
    ours = [likelihood.ask_choice(spec, item, Formula()).scores for item in ITEMS]
    assert found.items == 12
    assert found.metrics["acc"] == pytest.approx(sum(s["accuracy"] for s in ours) / 12)
    assert found.metrics["acc_norm"] == pytest.approx(sum(s["normalized"] for s in ours) / 12)
    assert found.metrics["acc"] != found.metrics["acc_norm"]
    (cut,) = harness.evaluate(HarnessRequest(("own",), include, limit=5), Formula())
    assert (cut.items, cut.sha256 == found.sha256) == (5, False)


@pytest.mark.filterwarnings("ignore")
def test_a_task_it_does_not_know_is_refused(include: Path) -> None:
    with pytest.raises(InputError, match="no task 'owm'"):
        harness.evaluate(HarnessRequest(("owm",), include), SaidModel())


@pytest.mark.filterwarnings("ignore")
def test_the_adapter_writes_greedily_or_not_at_all(include: Path) -> None:
    adapter = harness._adapter(SaidModel({"ask": "text"}), lambda done, total: None)
    how = {"until": "\n", "max_gen_toks": 5}
    assert adapter.generate_until([SimpleNamespace(args=("ask", how))]) == ["text"]
    warm = SimpleNamespace(args=("ask", {**how, "do_sample": True, "temperature": 0.7}))
    with pytest.raises(InputError, match=r"temperature 0\.7"):
        adapter.generate_until([warm])
    with pytest.raises(InputError, match="plm-edge eval"):
        adapter.loglikelihood_rolling([])


def test_without_the_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(MissingToolError) as caught:
        harness.require()
    assert "plm-edge[harness]" in (caught.value.hint or "")
