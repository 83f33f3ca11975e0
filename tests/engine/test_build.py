"""Building the miniature: current or not, failing, killed, twice at once, moved, read-only."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge import paths
from plm_edge.engine import build, cache, host, patches
from plm_edge.engine.build import Extras
from plm_edge.engine.cache import Engine
from plm_edge.engine.plan import host_plan
from plm_edge.errors import InputError, MissingToolError, SpaceError, ToolError
from tests.engine.conftest import COMMIT, FILES, Mini


def says(engine: Engine, tool: str = "llama-bench") -> str:
    done = subprocess.run([engine.tool(tool)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def leftovers(mini: Mini) -> list[Path]:
    return [*mini.cache.glob("engines/.part-*"), *mini.cache.glob("builds/*/.src-*")]


def test_edge_is_patched_and_stock_is_not(mini: Mini) -> None:
    edge, stock = build.ensure("edge"), build.ensure("stock")
    assert says(edge) == f"edge {COMMIT[:9]}-edge"
    assert says(stock) == f"stock {COMMIT[:9]}-stock"
    assert ctypes.CDLL(str(edge.library())).plm() == 1
    assert list(edge.manifest.patches) == ["0001-change-name"]
    assert list(edge.manifest.sources) == ["src/plm.c"]
    assert stock.manifest.patches == stock.manifest.sources == {}
    assert leftovers(mini) == []


def test_a_second_run_builds_nothing(mini: Mini) -> None:
    first = build.ensure("edge")
    said: list[str] = []
    second = build.ensure("edge", notify=said.append)
    assert first.was_built_now and not second.was_built_now
    assert second.manifest == first.manifest
    assert said == []


def test_progress_counts_ninjas_steps(mini: Mini) -> None:
    seen: list[tuple[int, int]] = []
    build.ensure("stock", lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 1
    assert seen[-1][0] == seen[-1][1] > 10
    assert seen == sorted(seen)


def test_the_manifest_hashes_every_binary(mini: Mini) -> None:
    engine = build.ensure("edge")
    files = {
        str(path.relative_to(engine.folder))
        for path in engine.folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert files - {"manifest.json"} == set(engine.manifest.binaries)
    assert {"bin/llama-server", "lib/libllama.so.0.1.0"} <= files
    assert (engine.lib_dir / "libllama.so").is_symlink()


def test_an_engine_can_be_moved_and_no_library_path_misleads_it(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build.ensure("edge")
    moved = replace(engine, folder=tmp_path / "elsewhere")
    engine.folder.rename(moved.folder)
    wrong = build.ensure("stock").lib_dir
    monkeypatch.setenv("LD_LIBRARY_PATH", str(wrong))
    assert says(moved).startswith("edge ")


def test_a_patch_edit_recompiles_only_what_it_touches(mini: Mini) -> None:
    build.ensure("edge")
    mini.add_source("src/plm.c", "int plm(void) { return 2; }\n")
    again = build.ensure("edge")
    assert ctypes.CDLL(str(again.library())).plm() == 2
    log = cache.builds_dir() / host_plan("edge", mini.load()).slot / "build.log"
    compiled = [line for line in log.read_text(encoding="utf-8").splitlines() if "Building" in line]
    assert len(compiled) == 1 and "plm.c" in compiled[0]


def test_a_failed_step_shows_command_last_lines_and_log(mini: Mini) -> None:
    mini.add_source("src/broken.c", "int broken(void) { return nonsense; }\n")
    with pytest.raises(ToolError) as caught:
        build.ensure("edge")
    first, *rest = caught.value.message.splitlines()
    assert "ninja -C" in first and "ended with status 1" in first
    assert any("nonsense" in line for line in rest)
    log = Path(rest[-1].removeprefix("full log: "))
    assert "nonsense" in log.read_text(encoding="utf-8")
    assert cache.list_all() == ([], [])
    assert leftovers(mini) == []


def test_a_failed_configure_is_told_the_same_way(mini: Mini) -> None:
    mini.publish({**FILES, "CMakeLists.txt": 'message(FATAL_ERROR "no such luck")\n'})
    with pytest.raises(ToolError, match="no such luck"):
        build.ensure("stock")
    mini.publish(FILES)
    assert says(build.ensure("stock")).startswith("stock")


def test_a_build_that_makes_nothing_is_an_error(mini: Mini) -> None:
    plan = replace(host_plan("edge", mini.load()), targets=("llama",))
    with pytest.raises(InputError, match="made no program"):
        build.realize(plan)
    assert cache.list_all() == ([], [])


def test_extras_are_added_and_kept(mini: Mini) -> None:
    plain = build.ensure("edge")
    assert build.current("edge", Extras(tests=True)) is None
    tested = build.ensure("edge", extras=Extras(tests=True))
    assert [path.name for path in tested.test_programs()] == ["test-llama-archs"]
    assert tested.folder == plain.folder
    assert build.current("edge") is not None  # more than asked for is fine
    tested.tool("llama-bench").unlink()
    cache_lost = build.ensure("edge")
    assert not cache_lost.manifest.has_tests  # a damaged engine's extras are not known any more


def test_a_rebuild_for_one_extra_keeps_the_other(
    mini: Mini, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<p>", encoding="utf-8")
    monkeypatch.setattr(build.ui, "build", lambda pin, notify: page)
    build.ensure("edge", extras=Extras(tests=True))
    both = build.ensure("edge", extras=Extras(ui=True))
    assert both.has_ui and both.manifest.has_tests


WORKER = """
import sys
from plm_edge.engine import build
print("ready", flush=True)
engine = build.ensure("edge", notify=lambda text: print(text, flush=True))
print(engine.was_built_now, engine.folder.name, flush=True)
"""


def worker() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def slow_compiler(folder: Path) -> Path:
    """A C compiler that takes its time over one file, and says when it started on it."""
    path = folder / "slow-cc"
    path.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *plm.c*) echo $$ > "{folder}/started"; '
        f'while [ ! -e "{folder}/go" ]; do sleep 0.05; done;; esac\n'
        'exec cc "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_two_builds_at_once_make_one(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(slow_compiler(tmp_path)))
    first = worker()
    wait_for(tmp_path / "started")
    second = worker()
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"
    assert second.stdout.readline().startswith("waiting for another build")
    (tmp_path / "go").touch()
    made, waited = (process.communicate(timeout=240)[0].split() for process in (first, second))
    assert (first.returncode, second.returncode) == (0, 0)
    assert made[-1] == waited[-1]
    assert "True" in made and "False" in waited
    assert says(build.ensure("edge")).startswith("edge")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_nothing_finished_and_is_resumed(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setenv("CC", str(slow_compiler(tmp_path)))
    process = worker()
    wait_for(tmp_path / "started")
    process.send_signal(how)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert cache.list_all() == ([], [])
    assert list(mini.cache.glob("engines/*")) == []
    (tmp_path / "go").touch()
    # After SIGKILL an orphaned compiler may still be writing: the lock it holds is waited for.
    assert says(build.ensure("edge")).startswith("edge")
    assert leftovers(mini) == []


def test_an_orphaned_compiler_keeps_the_next_build_waiting(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(slow_compiler(tmp_path)))
    process = worker()
    wait_for(tmp_path / "started")
    process.kill()
    process.communicate(timeout=120)
    said: list[str] = []
    waits = threading.Event()

    def notify(text: str) -> None:
        said.append(text)
        waits.set()

    thread = threading.Thread(target=lambda: build.ensure("edge", notify=notify))
    thread.start()
    assert waits.wait(120)
    assert said[0].startswith("waiting for another build")
    (tmp_path / "go").touch()
    thread.join(120)
    assert build.current("edge") is not None


def test_a_moved_cache_is_built_anew(mini: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build.ensure("edge")
    shutil.rmtree(engine.folder)
    moved = mini.cache.with_name("moved cache")
    mini.cache.rename(moved)
    monkeypatch.setenv("PLM_EDGE_CACHE", str(moved))
    assert says(build.ensure("edge")).startswith("edge")


def test_a_read_only_cache_is_named(mini: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_CACHE", "/sys/plm-edge")
    monkeypatch.setattr(build, "BUILD_BYTES", 0)  # nothing is free there either
    with pytest.raises(InputError, match=r"/sys/plm-edge.*cannot write"):
        build.ensure("edge")


def test_a_read_only_cache_that_has_the_engine_will_do(mini: Mini) -> None:
    engine = build.ensure("edge")
    shutil.rmtree(cache.builds_dir())
    cache.builds_dir().touch()  # nothing can be created in there now
    assert build.ensure("edge").folder == engine.folder


def test_too_little_disk_is_said_before(mini: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILD_BYTES", 1 << 60)
    with pytest.raises(SpaceError, match="GB free"):
        build.ensure("edge")
    assert not cache.builds_dir().exists()


def test_missing_tools_are_named_before_anything_is_written(
    mini: Mini, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("cc", "c++", "git"):
        os.symlink(shutil.which(name) or name, tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="not installed: cmake") as caught:
        build.ensure("edge")
    assert caught.value.hint == "sudo apt-get install cmake"
    assert not cache.builds_dir().exists()


def test_ninja_lines_become_steps() -> None:
    seen: list[tuple[int, int]] = []
    read = build.step_reader(lambda done, total: seen.append((done, total)))
    for line in ("[7/230] Building CXX object a[1/2].o", "warning: [9/9]", "[x/9] no"):
        read(line)
    assert seen == [(7, 230)]


def test_a_toolchain_file_reaches_cmake(mini: Mini, tmp_path: Path) -> None:
    file = tmp_path / "device.cmake"
    file.write_text("add_compile_definitions(DEVICE)\n", encoding="utf-8")
    source = "int device(void) {\n#ifdef DEVICE\nreturn 1;\n#endif\nreturn 0; }\n"
    mini.add_source("src/device.c", source)
    plan = host_plan("edge", mini.load())
    plan = replace(plan, toolchain=replace(plan.toolchain, name="device", file=file))
    engine = build.realize(plan)
    assert engine.manifest.key.startswith("edge-device-")
    assert ctypes.CDLL(str(engine.library())).device() == 1


def test_the_real_engine_runs_and_is_what_the_manifest_says(engine: Engine) -> None:
    engine.check()
    done = subprocess.run(
        [engine.tool("llama-bench"), "--help"], capture_output=True, text=True, check=True
    )
    assert "usage" in done.stdout
    shipped = patches.load()
    assert list(engine.manifest.patches) == [patch.name for patch in shipped.patches]
    assert engine.manifest.commit == shipped.pin.commit
    assert "-DGGML_NATIVE=ON" in engine.manifest.flags
    assert engine.manifest.cpu == host.cpu_identity()


def test_the_binding_loads_either_engine(engine: Engine, stock_engine: Engine) -> None:
    script = "import llama_cpp; print(llama_cpp.llama_cpp._lib._name)"
    for built in (engine, stock_engine):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **built.library_environment()},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(built.library())


def test_the_cache_is_where_paths_say(mini: Mini) -> None:
    assert build.ensure("stock").folder.parent == paths.cache_dir() / "engines"
