"""EleutherAI's lm-evaluation-harness on our engine: its tasks, prompts and metrics, our model.

For numbers that stand beside published ones. It is an extra of its own, since it brings some forty
packages; nothing else here imports it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.console import Progress, no_progress
from plm_edge.errors import InputError, MissingToolError
from plm_edge.eval.tasks.model import Prompt, TaskModel

_DEFAULT_TOKENS = 256
_NO_ROLLING = "perplexity of whole texts is measured by `plm-edge eval`"


@dataclass(frozen=True)
class HarnessRequest:
    """Which of its tasks to run: names it knows, and a folder with further YAML files."""

    tasks: tuple[str, ...]
    include: Path | None = None
    limit: int | None = None
    shots: int | None = None


@dataclass(frozen=True)
class HarnessResult:
    """One task's metrics as the harness names them, and a hash of how it was asked."""

    task: str
    sha256: str
    shots: int
    items: int
    metrics: dict[str, float]
    version: str


def evaluate(
    request: HarnessRequest, model: TaskModel, progress: Progress = no_progress
) -> list[HarnessResult]:
    """Run tasks of the harness; `MissingToolError` without the extra."""
    manager = checked(request)
    import lm_eval

    found = lm_eval.simple_evaluate(
        model=_adapter(model, progress),
        tasks=list(request.tasks),
        task_manager=manager,
        limit=request.limit,
        num_fewshot=request.shots,
        log_samples=False,
    )
    return [_result(name, found, request) for name in sorted(found["results"])]


def require() -> None:
    """Raise `MissingToolError` unless the harness can be imported."""
    try:
        import lm_eval.tasks  # noqa: F401
    except ImportError as error:
        raise MissingToolError(
            f"lm-evaluation-harness is not installed ({error})",
            hint="pip install 'plm-edge[harness]'",
        ) from error


def checked(request: HarnessRequest) -> Any:
    """The harness's list of tasks; `InputError` for a name that is not in it."""
    require()
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(request.include) if request.include else None)
    for name in request.tasks:
        if name not in manager.all_tasks:
            raise InputError(
                f"lm-evaluation-harness has no task {name!r}",
                hint="lm_eval ls tasks; --include adds a folder of YAML files",
            )
    return manager


def _result(name: str, found: dict[str, Any], request: HarnessRequest) -> HarnessResult:
    row = found["results"][name]
    metrics = {
        key.removesuffix(",none"): float(value)
        for key, value in row.items()
        if isinstance(value, int | float) and key not in ("sample_len", "sample_count")
    }
    shots = int(found.get("n-shot", {}).get(name) or 0)
    version = str(found.get("lm_eval_version", ""))
    config = found.get("configs", {}).get(name, {})
    asked = json.dumps([config, request.limit, shots, version], sort_keys=True, default=str)
    items = found.get("n-samples", {}).get(name, {}).get("effective", 0)
    digest = hashlib.sha256(asked.encode()).hexdigest()
    return HarnessResult(name, digest, shots, int(items), metrics, version)


def _adapter(model: TaskModel, progress: Progress) -> Any:
    from lm_eval.api.model import LM

    class EngineLM(LM):  # type: ignore[misc, unused-ignore]
        """What the harness calls; the requests' arguments are as its API defines them."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            return _each(
                requests, lambda context, text: _likelihood(model, context, text), progress
            )

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            raise InputError(_NO_ROLLING, hint="plm-edge eval --help")

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return _each(requests, lambda context, how: _written(model, context, how), progress)

    return EngineLM()


def _each(requests: Sequence[Any], ask: Callable[[Any, Any], Any], progress: Progress) -> list[Any]:
    answers = []
    for number, request in enumerate(requests):
        progress(number, len(requests))
        answers.append(ask(*request.args))
    progress(len(requests), len(requests))
    return answers


def _likelihood(model: TaskModel, context: str, text: str) -> tuple[float, bool]:
    # The harness may ask about a text with nothing before it.
    found = model.likelihoods(Prompt(context or "\n"), [text])
    return found.values[0], found.greedy[0]


def _written(model: TaskModel, context: str, how: dict[str, Any]) -> str:
    if how.get("do_sample") and float(how.get("temperature", 0)) > 0:
        raise InputError(f"temperature {how['temperature']}: tasks are answered greedily here")
    until = how.get("until") or []
    stop = [until] if isinstance(until, str) else list(until)
    limit = int(how.get("max_gen_toks") or how.get("max_tokens") or _DEFAULT_TOKENS)
    return model.complete(Prompt(context), limit, stop).text
