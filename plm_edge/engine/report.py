"""What `engine build`, `list` and `show` tell, as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from plm_edge.device.profile import Profile, ToolchainName
from plm_edge.engine import build, cache, cross, host, patches
from plm_edge.engine.build import Extras
from plm_edge.engine.cache import Engine
from plm_edge.engine.plan import VARIANTS, Variant

HOST = Profile("this machine")


def engine_rows(engine: Engine) -> dict[str, Any]:
    """An engine in the words of its manifest, with the folders other programs need."""
    manifest = asdict(engine.manifest)
    return {
        "key": manifest.pop("key"),
        "bin_dir": str(engine.bin_dir),
        "lib_dir": str(engine.lib_dir),
        "size_bytes": engine.size_bytes(),
        "required_features": list(cross.required_features(engine)),
        **manifest,
    }


def plan_rows(
    variant: Variant,
    extras: Extras,
    device: Profile = HOST,
    toolchain: ToolchainName | None = None,
) -> dict[str, Any]:
    """What a build would do: from which source, with which flags, into which folder."""
    plan = cross.plan(device, variant, patches.load(), toolchain)
    engine = cache.find(plan.key)
    is_current = engine is not None and extras.are_in(engine)
    targets = (*plan.targets, *(plan.test_targets if extras.tests else ()))
    return {
        "key": plan.key,
        "action": "nothing, it is current" if is_current else "build",
        "source": f"{plan.patch_set.pin.requirement} {plan.patch_set.pin.tree}",
        "patches": len(plan.patch_set.patches) if variant == "edge" else 0,
        "compiler": list(plan.toolchain.compiler),
        "cpu": list(plan.toolchain.cpu),
        "flags": list(plan.flags),
        "targets": list(targets),
        "jobs": host.build_jobs(),
        "build_dir": str(cache.builds_dir() / plan.slot),
        "target": str(cache.engines_dir() / plan.key),
        "with_ui": extras.ui,
        "with_tests": extras.tests,
    }


def list_rows(engines: list[Engine]) -> list[dict[str, Any]]:
    """One row per engine; `is_current` marks what a build for any of `devices` would return."""
    served = {one.plan.key: one.devices for one in cross.all_plans(patches.load())}
    for engine in filter(None, map(build.current, VARIANTS)):
        served.setdefault(engine.manifest.key, ("host",))  # found without its compiler
    return [
        {
            "key": engine.manifest.key,
            "variant": engine.variant,
            "built_at": engine.manifest.built_at,
            "size_bytes": engine.size_bytes(),
            "has_ui": engine.has_ui,
            "has_tests": engine.manifest.has_tests,
            "is_current": engine.manifest.key in served,
            "devices": list(served.get(engine.manifest.key, ())),
            "bin_dir": str(engine.bin_dir),
            "lib_dir": str(engine.lib_dir),
        }
        for engine in engines
    ]
