"""From plan to engine: source, patches, cmake, ninja, install; whole or not at all.

A finished engine appears under its key by one rename. Everything before happens in a build
folder that is locked, so that two builds at once wait for each other and a killed one is resumed.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from plm_edge import __version__, paths, shell
from plm_edge.console import Progress, no_progress
from plm_edge.device.profile import Profile, ToolchainName
from plm_edge.engine import cache, cross, host, patches, tree, ui
from plm_edge.engine.cache import Binary, Engine, Manifest
from plm_edge.engine.lock import locked
from plm_edge.engine.plan import BuildPlan, Variant, host_plan
from plm_edge.engine.source import Notify, sha256, silent
from plm_edge.errors import InputError, MissingToolError

# Source, twice while it is brought up to date, objects and binaries 240 MB; the download 77 MB; the
# installed copy 24 MB (0.3.36, gcc 12, 2026-11).
BUILD_BYTES = 400_000_000
_NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\] ")


@dataclass(frozen=True)
class Extras:
    """What an engine can carry beyond libraries and tools."""

    ui: bool = False
    tests: bool = False

    def __or__(self, other: Extras) -> Extras:
        return Extras(self.ui or other.ui, self.tests or other.tests)

    def are_in(self, engine: Engine) -> bool:
        """Whether `engine` already carries all of these."""
        return self | extras_of(engine) == extras_of(engine)


def extras_of(engine: Engine) -> Extras:
    """What an engine carries."""
    return Extras(engine.manifest.has_ui, engine.manifest.has_tests)


def ensure(
    variant: Variant = "edge",
    progress: Progress = no_progress,
    *,
    extras: Extras = Extras(),
    notify: Notify = silent,
) -> Engine:
    """The engine for this machine and the patch set in force; built if the cache has none.

    `progress` counts compile steps; `notify` hears what happens before and between them.
    """
    engine = current(variant, extras)
    if engine is not None:
        return engine
    return realize(host_plan(variant, patches.load()), progress, extras=extras, notify=notify)


def ensure_for(
    device: Profile,
    variant: Variant = "edge",
    progress: Progress = no_progress,
    *,
    toolchain: ToolchainName | None = None,
    extras: Extras = Extras(),
    notify: Notify = silent,
) -> Engine:
    """The engine for a device; built with its profile's toolchain if the cache has none."""
    engine = current_for(device, variant, extras, toolchain)
    if engine is not None:
        return engine
    plan = cross.plan(device, variant, patches.load(), toolchain)
    return realize(plan, progress, extras=extras, notify=notify)


def current_for(
    device: Profile,
    variant: Variant = "edge",
    extras: Extras = Extras(),
    toolchain: ToolchainName | None = None,
) -> Engine | None:
    """The engine that `ensure_for` would return without building; None if it would build."""
    if device.architecture == "native" and toolchain in (None, "native"):
        return current(variant, extras)
    patch_set = patches.load()
    try:
        engine = cache.find(cross.plan(device, variant, patch_set, toolchain).key)
    except MissingToolError:
        # An engine that was built elsewhere and imported needs no compiler here.
        name, cpu = cross.label(device, toolchain), cross.cpu_identity(device, toolchain)
        engine = cache.find_built_from(variant, patch_set, cpu, name)
    return engine if engine is not None and extras.are_in(engine) else None


def current(variant: Variant = "edge", extras: Extras = Extras()) -> Engine | None:
    """The engine that `ensure` would return without building; None if it would build."""
    patch_set = patches.load()
    try:
        engine = cache.find(host_plan(variant, patch_set).key)
    except MissingToolError:
        # Without a compiler an engine that was built here earlier still runs.
        engine = cache.find_built_from(variant, patch_set, host.cpu_identity())
    return engine if engine is not None and extras.are_in(engine) else None


def realize(
    plan: BuildPlan,
    progress: Progress = no_progress,
    *,
    extras: Extras = Extras(),
    notify: Notify = silent,
) -> Engine:
    """The engine of `plan`, from the cache or built into it."""
    engine = cache.find(plan.key)
    if engine is not None and extras.are_in(engine):
        return engine
    host.require_tools(compilers=not cross.is_cross(plan.toolchain))
    slot = cache.builds_dir() / plan.slot
    paths.require_space(slot, BUILD_BYTES)
    with locked(slot.with_suffix(".lock"), lambda: notify("waiting for another build")) as lock:
        engine = cache.find(plan.key)  # the one we waited for may have built it
        if engine is not None:
            if extras.are_in(engine):
                return engine
            extras = extras | extras_of(engine)
        try:
            return _Build(plan, extras, slot, lock, progress, notify).run()
        except OSError as error:
            raise paths.write_error(slot, error) from error


@dataclass(frozen=True)
class _Build:
    """One build under way, in a locked slot."""

    plan: BuildPlan
    extras: Extras
    slot: Path
    lock: int
    progress: Progress
    notify: Notify

    @property
    def _source(self) -> Path:
        return self.slot / "src"

    @property
    def _objects(self) -> Path:
        return self.slot / "build"

    def run(self) -> Engine:
        started = time.monotonic()
        self.slot.mkdir(parents=True, exist_ok=True)
        (self.slot / "build.log").unlink(missing_ok=True)
        tree.bring_up_to_date(self.plan, self._source, self.notify)
        self._place_ui()
        self._configure()
        self._compile()
        cross.finish(self.plan.toolchain, self.slot)
        return self._install(started)

    def _place_ui(self) -> None:
        target = self._source / ui.DIST_PATH
        shutil.rmtree(target, ignore_errors=True)
        if self.extras.ui:
            shutil.copytree(ui.build(self.plan.patch_set.pin, self.notify), target)

    def _configure(self) -> None:
        self._forget_moved_build()
        pin, toolchain = self.plan.patch_set.pin, self.plan.toolchain
        command = ["cmake", "-G", "Ninja", "-S", str(self._source), "-B", str(self._objects)]
        command += [f"-DCMAKE_MAKE_PROGRAM={host.ninja()}", host.ccache_flag(), *self.plan.flags]
        command += [f"-DLLAMA_BUILD_NUMBER={pin.build_number}"]
        # The commit is in every benchmark row; it also tells the two variants apart there.
        command += [f"-DLLAMA_BUILD_COMMIT={pin.commit[:9]}-{self.plan.variant}"]
        if toolchain.file is not None:
            command.append(f"-DCMAKE_TOOLCHAIN_FILE={toolchain.file.resolve()}")
        self._run([*command, *cross.prepare(toolchain, self.slot, self.notify)])

    def _forget_moved_build(self) -> None:
        """Start over if the cache folder was moved: cmake keeps absolute paths."""
        record = self._objects / "CMakeCache.txt"
        if not record.is_file():
            return
        text = record.read_text(encoding="utf-8", errors="replace")
        if f"CMAKE_HOME_DIRECTORY:INTERNAL={self._source}\n" not in text:
            shutil.rmtree(self._objects)

    def _compile(self) -> None:
        command = [str(host.ninja()), "-C", str(self._objects), "-j", str(host.build_jobs())]
        targets = [*self.plan.targets, *(self.plan.test_targets if self.extras.tests else ())]
        # Programs are linked anew, so that none of another target list is taken for this one's.
        shutil.rmtree(self._objects / "bin", ignore_errors=True)
        self.notify(f"compiling {self.plan.key}")
        environment = {"NINJA_STATUS": "[%f/%t] ", **host.ccache_environment(self.slot)}
        environment |= cross.ccache_environment(self.plan.toolchain)
        self._run([*command, *targets], environment, step_reader(self.progress))

    def _run(
        self,
        command: list[str],
        environment: dict[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        shell.run_logged(
            command,
            self.slot / "build.log",
            env=environment,
            on_line=on_line,
            pass_fds=(self.lock,),
        )

    def _install(self, started: float) -> Engine:
        target = cache.engines_dir() / self.plan.key
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as scratch:
            fresh = Path(scratch) / "new"
            self._copy_binaries(fresh)
            if cross.is_cross(self.plan.toolchain):
                programs = [*(fresh / "bin").iterdir(), *(fresh / "tests").iterdir()]
                cross.check_programs(self.plan.toolchain, programs)
            cache.write_manifest(fresh, self._manifest(fresh, time.monotonic() - started))
            if target.exists():  # damaged, or lacks an extra
                target.rename(Path(scratch) / "old")
            fresh.rename(target)
        return cache.built_now(cache.load(target))

    def _copy_binaries(self, fresh: Path) -> None:
        built = self._objects / "bin"
        for folder in ("bin", "lib", "tests"):
            (fresh / folder).mkdir(parents=True)
        for path in built.glob("lib*.so*"):
            # libx.so -> libx.so.0 -> libx.so.0.5.0 stay links
            shutil.copy2(path, fresh / "lib", follow_symlinks=False)
        for name in self.plan.targets:
            if (built / name).is_file():
                shutil.copy2(built / name, fresh / "bin")
        for name in self.plan.test_targets if self.extras.tests else ():
            shutil.copy2(built / name, fresh / "tests")
        if not any((fresh / "bin").iterdir()):
            raise InputError(f"{built}: the build made no program", hint=shell.quote(["ls", built]))

    def _manifest(self, fresh: Path, seconds: float) -> Manifest:
        plan, pin = self.plan, self.plan.patch_set.pin
        is_patched = plan.variant == "edge"
        hooks = plan.patch_set.patches if is_patched else ()
        return Manifest(
            key=plan.key,
            variant=plan.variant,
            toolchain=plan.toolchain.name,
            package=pin.package,
            version=pin.version,
            sdist_sha256=pin.sha256,
            commit=pin.commit,
            build_number=pin.build_number,
            patches={patch.name: patch.sha256 for patch in hooks},
            sources=dict(plan.sources),
            flags=plan.flags,
            compiler=plan.toolchain.compiler,
            cpu=plan.toolchain.cpu,
            targets=plan.targets,
            has_ui=self.extras.ui,
            has_tests=self.extras.tests,
            built_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            build_seconds=round(seconds, 1),
            plm_edge=__version__,
            binaries=_binaries(fresh),
        )


def step_reader(progress: Progress) -> Callable[[str], None]:
    """Turns ninja's `[n/m]` lines into progress."""

    def read(line: str) -> None:
        if found := _NINJA_STEP.match(line):
            progress(int(found[1]), int(found[2]))

    return read


def _binaries(folder: Path) -> dict[str, Binary]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): Binary(sha256(path), path.stat().st_size) for path in files
    }
