"""What `plm-edge quantize` does: by a recipe that is there, or by one that is searched first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from plm_edge import console, resources, shell
from plm_edge.commands import _record, _search
from plm_edge.commands._ready_engine import ready_engine
from plm_edge.commands._search import Searcher
from plm_edge.device import profile as profiles
from plm_edge.errors import UsageError
from plm_edge.paths import write_text_atomic
from plm_edge.quantize import budget as budgets
from plm_edge.quantize import candidates as finding
from plm_edge.quantize import imatrix, recipe_text, search
from plm_edge.quantize import plan as planning
from plm_edge.quantize import recipe as recipes
from plm_edge.quantize.budget import Budget
from plm_edge.quantize.plan import Plan
from plm_edge.quantize.quantizer import Request, apply, check
from plm_edge.quantize.recipe import Recipe
from plm_edge.quantize.report import plan_table, rows

_MEASURES: dict[str, bool | None] = {"auto": None, "all": True, "probe": False}


@dataclass(frozen=True)
class Wanted:
    """What to search for, as the user said it."""

    budget: str | None
    bpw: float | None
    device: str | None
    ctx: int
    text: Path | None
    types: str
    windows: int | None
    measure: str
    method: str


def goal(
    recipe: str | None, budget: str | None, bpw: float | None, device: str | None
) -> Literal["recipe", "search"]:
    """What the flags ask for; `UsageError` unless they ask for exactly one thing."""
    given = [value is not None for value in (recipe, budget, bpw, device)]
    if sum(given) != 1:
        raise UsageError(
            "pass one of --recipe, --budget, --bpw, --for",
            hint="plm-edge recipe list, or --budget 1.0GB --text TEXT",
        )
    return "recipe" if recipe is not None else "search"


def by_recipe(request: Request, name: str, is_dry: bool, as_json: bool) -> None:
    """Quantize by a recipe named or at a path."""
    plan = planning.make(request.source, _recipe(name), _added(request))
    check(request, plan)
    say_fallbacks(plan)
    seconds = None if is_dry else write(request, plan)
    show(request, plan, {"recipe": name, "seconds": seconds}, as_json)


def _recipe(name: str) -> Recipe:
    if name.endswith(".toml"):
        return recipes.load(resources.Resource("quant", Path(name).stem, Path(name), "user"))
    return recipes.find(name)


def _added(request: Request) -> dict[str, Any]:
    if request.importance is None:
        return {}
    found = imatrix.read(request.importance)
    imatrix.require_fit(found, request.importance, request.source)
    return imatrix.quantizer_keys(found, request.importance)


def by_search(
    request: Request, wanted: Wanted, save_recipe: Path | None, is_dry: bool, as_json: bool
) -> None:
    """Measure, choose, write the recipe, quantize by it."""
    asked = _asked(request, wanted)
    candidates = finding.find(request.source, asked.types)
    fixed = finding.fixed_bytes(request.source, candidates, {})
    budget = _budget(request, wanted, fixed)
    search.require_reachable(candidates, fixed, budget.file_bytes)
    check(request, planning.make(request.source, Recipe("", candidates[0].types[0])))
    if is_dry:
        _say_plan(request, budget, search.smallest_bytes(candidates, fixed), as_json)
        return
    searcher = _search.prepare(asked, ready_engine())
    recipe_path = save_recipe or request.target.with_suffix(".toml")
    job = replace(
        request, importance=request.importance or recipe_path.with_suffix(".imatrix.gguf")
    )
    _run_search(job, searcher, budget, Outputs(recipe_path, wanted.method, as_json))


@dataclass(frozen=True)
class Outputs:
    """Where a search puts its recipe, by which method, and how it tells."""

    recipe: Path
    method: str
    as_json: bool


def _run_search(job: Request, searcher: Searcher, budget: Budget, outputs: Outputs) -> None:
    assert job.importance is not None
    space = searcher.space(job.importance)
    types = _search.choose(searcher, space, budget.file_bytes, outputs.method)
    searcher.keep_importance(job.importance)
    made = search.recipe(space, types, f"{outputs.method}: {budget.reason}")
    plan = planning.make(job.source, made, _added(job))
    check(job, plan)
    about = {
        "recipe": str(outputs.recipe),
        "imatrix": str(job.importance),
        "budget_bytes": budget.file_bytes,
        "why": budget.reason,
        "foretold_divergence": search.cost_of(space, types),
        "bound": search.choose(space, budget.file_bytes).bound,
        "proxy_rank_correlation": searcher.proxy_rank_correlation(),
    }
    comments = _comments(job, searcher, plan, about)
    write_text_atomic(outputs.recipe, recipe_text.render(made, comments))
    show(job, plan, {**about, "seconds": write(job, plan)}, outputs.as_json)


def _asked(request: Request, wanted: Wanted) -> _search.Request:
    if wanted.text is None:
        raise UsageError("a search needs --text, like what the model will read")
    if wanted.measure not in _MEASURES:
        raise UsageError(f"--measure {wanted.measure}: expected all, probe or auto")
    if wanted.method not in _search.METHODS:
        raise UsageError(f"--method {wanted.method}: expected {', '.join(_search.METHODS)}")
    words = tuple(wanted.types.replace(",", " ").split())
    return _search.Request(
        request.source,
        wanted.text,
        words or finding.DEFAULT_TYPES,
        request.importance,
        wanted.windows,
        request.threads,
        _MEASURES[wanted.measure],
    )


def _budget(request: Request, wanted: Wanted, fixed: int) -> Budget:
    if wanted.budget is not None:
        return budgets.from_size(wanted.budget)
    if wanted.bpw is not None:
        return budgets.from_bits(wanted.bpw, request.source, fixed)
    name = str(wanted.device)
    return budgets.for_device(name, profiles.find(name), request.source, wanted.ctx)


def _say_plan(request: Request, budget: Budget, smallest: int, as_json: bool) -> None:
    if as_json:
        found = {"budget_bytes": budget.file_bytes, "smallest_bytes": smallest}
        console.print_json({**found, "why": budget.reason, "output": str(request.target)})
        return
    print(f"would search the best file of at most {budget.file_bytes:,} bytes ({budget.reason})")
    print(f"and write {request.target}; the smallest there can be has {smallest:,}")


def _comments(job: Request, searcher: Searcher, plan: Plan, about: dict[str, Any]) -> list[str]:
    source, read = job.source, searcher.read
    again = ["plm-edge", "quantize", source.path, "-o", job.target, "--recipe", about["recipe"]]
    return [
        f"{plan.file_bytes:,} bytes, {plan.bits_per_weight:.3f} bits a weight, of "
        f"{source.path.name} ({imatrix.weights_id(source)[:12]}).",
        f"Foretold: KL {about['foretold_divergence']:.3e} nats a token, matrix by matrix, on",
        f"{len(searcher.windows.tokens)} windows of {searcher.windows.context} tokens of "
        f"{read.path.name} ({read.sha256[:12]}). Matrices not named take the main type.",
        f"Made by:   {_record.command_line()}",
        f"Run again: {shell.quote([*again, '--imatrix', about['imatrix']])}",
    ]


def write(request: Request, plan: Plan) -> float:
    """Quantize with a progress bar; how long it took."""
    engine = ready_engine()
    with console.byte_progress(f"quantizing {request.source.path.name}") as progress:
        return apply(request, plan, engine, progress).seconds


def say_fallbacks(plan: Plan) -> None:
    """Warn of matrices that cannot take what the recipe asks for."""
    for group in plan.groups():
        if group.falls_back_from is not None:
            console.warn(
                f"{group.name}: rows do not divide into blocks of {group.falls_back_from}; "
                f"{group.tensors} tensors become {group.type}"
            )


def show(request: Request, plan: Plan, about: dict[str, Any], as_json: bool) -> None:
    """What was, or would be, written."""
    is_random = bool(request.source.metadata.get("plm_edge.random"))
    seconds = about["seconds"]
    if as_json:
        summary: dict[str, Any] = {
            "file": str(request.source.path),
            "output": str(request.target),
            "random_weights": is_random,
            "file_bytes": plan.file_bytes,
            "bits_per_weight": round(plan.bits_per_weight, 4),
            "written": seconds is not None,
        }
        console.print_json({**summary, **about, "groups": rows(plan)})
        return
    console.stdout().print(plan_table(plan))
    verb = "would write" if seconds is None else "wrote"
    took = "" if seconds is None else f" in {seconds:.0f} s, every type checked"
    label = ", random weights" if is_random else ""
    if "foretold_divergence" in about:
        print(
            f"recipe {about['recipe']}: KL {about['foretold_divergence']:.3e} nats a token "
            f"foretold (no choice of this size under {about['bound']:.3e}); "
            f"importance {about['imatrix']}"
        )
        if about["proxy_rank_correlation"] is not None:
            rank = about["proxy_rank_correlation"]
            print(f"one probe of each matrix would have ranked the formats alike to {rank:.3f}")
    print(
        f"{verb} {request.target}: {plan.file_bytes:,} bytes, "
        f"{plan.bits_per_weight:.2f} bits per weight{label}{took}"
    )
