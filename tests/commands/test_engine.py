"""`plm-edge engine`, as a user types it, on the miniature source."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plm_edge.cli import app
from plm_edge.device import profile
from plm_edge.engine import cache, ui
from tests.engine.conftest import EDGE_NAME, FILES, Mini, hook, mini, plain_flags

__all__ = ["mini", "plain_flags"]


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["engine", *map(str, words)])


def test_build_prints_folders_and_a_second_one_is_quiet(mini: Mini) -> None:
    first = run("build", "--json")
    rows = json.loads(first.stdout)
    assert Path(rows["bin_dir"], "llama-bench").is_file()
    assert Path(rows["lib_dir"], "libllama.so").exists()
    assert "building the edge engine" in first.stderr
    second = run("build")
    assert "from the cache" in second.stderr and "building" not in second.stderr
    assert f"bin_dir        {rows['bin_dir']}" in second.stdout


def test_build_dry_run_builds_nothing(mini: Mini) -> None:
    planned = json.loads(run("build", "--stock", "--tests", "--dry-run", "--json").stdout)
    assert planned["action"] == "build"
    assert planned["key"].startswith("stock-host-")
    assert "-DGGML_NATIVE=ON" in run("build", "--dry-run").stdout
    assert not (mini.cache / "engines").exists()


def test_a_failed_build_is_one_message_and_exit_1(mini: Mini) -> None:
    mini.add_source("src/broken.c", "int broken(void) { return nonsense; }\n")
    failed = run("build")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[2].startswith("plm-edge: ")
    assert "full log: " in failed.stderr
    assert "Traceback" not in failed.stderr


def test_ui_without_npm_builds_the_api_alone_and_says_so(
    mini: Mini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "is_possible", lambda: False)
    built = run("build", "--ui", "--json")
    assert built.exit_code == 0
    assert "no web page" in built.stderr
    assert "apt-get install npm nodejs" in built.stderr
    assert json.loads(built.stdout)["has_ui"] is False


def test_the_stock_engine_has_no_page(mini: Mini) -> None:
    refused = run("build", "--ui", "--stock")
    assert (refused.exit_code, "no server" in refused.stderr) == (2, True)


def test_list_and_show_name_the_same_folders(mini: Mini) -> None:
    assert run("list").stdout == ""
    assert run("show").exit_code == 1
    run("build")
    rows = json.loads(run("list", "--json").stdout)
    shown = json.loads(run("show", "--json").stdout)
    assert [row["bin_dir"] for row in rows] == [shown["bin_dir"]]
    assert run("list").stdout.startswith(f"* {shown['key']}")
    by_key = json.loads(run("show", shown["key"], "--json").stdout)
    assert by_key == shown


@pytest.mark.parametrize("key", ["edge-host-0", "../downloads", ".part-x", ""])
def test_show_refuses_what_is_not_listed(mini: Mini, key: str) -> None:
    refused = run("show", key)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "plm-edge engine list" in refused.stderr


def test_show_notices_a_changed_binary(mini: Mini) -> None:
    rows = json.loads(run("build", "--json").stdout)
    tool = Path(rows["bin_dir"], "llama-bench")
    content = tool.read_bytes()
    tool.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = run("show")
    assert (refused.exit_code, "not the file that was built" in refused.stderr) == (1, True)


def test_a_damaged_engine_is_a_warning_when_listed(mini: Mini) -> None:
    rows = json.loads(run("build", "--json").stdout)
    Path(rows["bin_dir"], "llama-bench").unlink()
    listed = run("list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "warning:" in listed.stderr and "llama-bench" in listed.stderr


def test_prune_says_what_goes_first(mini: Mini) -> None:
    run("build")
    mini.add_source("src/plm.c", "int plm(void) { return 2; }\n")
    planned = json.loads(run("prune", "--dry-run", "--json").stdout)
    assert [row["reason"] for row in planned] == ["outdated"]
    assert Path(planned[0]["path"]).exists()
    assert "outdated" in run("prune").stdout
    assert not Path(planned[0]["path"]).exists()
    run("prune", "--all")
    assert cache.list_all() == ([], [])


def test_source_writes_the_patched_tree(mini: Mini, tmp_path: Path) -> None:
    target = tmp_path / "tree"
    assert "would write llama-mini==1.0" in run("source", str(target), "--dry-run").stdout
    assert run("source", str(target)).stdout.strip() == str(target)
    assert (target / "src/name.c").read_text(encoding="utf-8") == EDGE_NAME
    assert run("source", str(target)).exit_code == 1
    run("source", str(tmp_path / "stock"), "--stock")
    assert (tmp_path / "stock/src/name.c").read_text(encoding="utf-8") == FILES["src/name.c"]


def test_test_runs_the_engines_own_tests(mini: Mini) -> None:
    passed = run("test", "--json")
    assert passed.exit_code == 0
    assert [row["name"] for row in json.loads(passed.stdout)] == ["test-llama-archs"]
    assert "passed" in passed.stderr


def test_a_failing_test_shows_its_last_lines(mini: Mini) -> None:
    source = FILES["tools/main.c"].replace("return 0", 'puts("error 0.3"); return 1')
    mini.publish({**FILES, "tools/main.c": source})
    failed = run("test")
    assert failed.exit_code == 1
    assert "1 of 1 failed: test-llama-archs" in failed.stderr
    assert "error 0.3" in failed.stderr


def test_patches_list_and_show(mini: Mini) -> None:
    assert "change name" in run("patches", "list").stdout
    rows = json.loads(run("patches", "list", "--json").stdout)
    assert [row["name"] for row in rows] == ["0001-change-name"]
    assert run("patches", "show", "0001-change-name").stdout.startswith("From 0000")
    assert json.loads(run("patches", "show", rows[0]["name"], "--json").stdout) == rows[0]
    assert run("patches", "show", "0002-nothing").exit_code == 1


def test_patches_validate_names_the_wrong_one(mini: Mini) -> None:
    assert "0001-change-name.patch: ok" in run("patches", "validate").stdout
    assert json.loads(run("patches", "validate", "--json").stdout) == [
        {"name": "0001-change-name", "ok": True}
    ]
    other = hook("src/name.c", EDGE_NAME.replace("const", "konst"), EDGE_NAME)
    mini.add_patch("0002-change-again.patch", other)
    refused = run("patches", "validate", str(mini.patches_dir))
    assert refused.exit_code == 1
    assert "0002-change-again.patch: does not apply" in refused.stderr


def test_patches_validate_can_compile_every_step(mini: Mini) -> None:
    checked = run("patches", "validate", "--build")
    assert checked.exit_code == 0
    assert "compiling after 0001-change-name" in checked.stderr


def test_patches_are_copied_as_one_and_then_used(
    mini: Mini, monkeypatch: pytest.MonkeyPatch, own_folders: Path
) -> None:
    target = own_folders / "config" / "patches"
    assert f"to {target}" in run("patches", "copy", "--dry-run").stdout
    assert run("patches", "copy").stdout.strip() == str(target)
    assert run("patches", "copy").exit_code == 1
    monkeypatch.delenv("PLM_EDGE_OVERLAY")
    assert f"# {target}" in run("patches", "list").stderr


def test_patches_copy_to_a_folder_that_cannot_be(mini: Mini) -> None:
    refused = run("patches", "copy", "/sys/plm-edge/patches")
    assert (refused.exit_code, "/sys/plm-edge" in refused.stderr) == (1, True)


def test_patches_refresh_writes_what_git_would(mini: Mini, tmp_path: Path) -> None:
    assert "would merge 1 patches" in run("patches", "refresh", "--dry-run").stdout
    first = run("patches", "refresh")
    assert first.exit_code == 0, first.stderr
    second = run("patches", "refresh", "-o", str(tmp_path / "out"))
    assert (second.stdout, "0 of 1 patches changed" in second.stderr) == ("", True)
    assert (tmp_path / "out" / "src" / "src" / "plm.c").is_file()


def test_a_missing_tool_is_named_with_its_package(
    mini: Mini, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("cc", "c++", "git"):
        os.symlink(shutil.which(name) or name, tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = run("build")
    assert refused.exit_code == 1
    assert refused.stderr.endswith(
        "plm-edge: not installed: cmake\nhint: sudo apt-get install cmake\n"
    )


def test_a_resolved_conflict_can_be_exported(mini: Mini, tmp_path: Path) -> None:
    refused = run("patches", "refresh", "--export", str(tmp_path / "nowhere"))
    assert refused.exit_code == 1
    assert str(tmp_path / "nowhere") in refused.stderr


def test_a_plan_for_a_device_names_its_cpu(mini: Mini) -> None:
    rows = json.loads(run("build", "--device", "rpi5", "--dry-run", "--json").stdout)
    assert rows["key"].startswith("edge-zig-aarch64-")
    assert rows["cpu"][:2] == ["aarch64", profile.find("rpi5").cpu.zig_cpu]
    assert "-DGGML_NATIVE=OFF" in rows["flags"]
    stock = json.loads(run("build", "--device", "rpi5", "--stock", "--dry-run", "--json").stdout)
    assert stock["key"].startswith("stock-zig-aarch64-")


def test_toolchains_that_cannot_be_are_named(mini: Mini) -> None:
    done = run("build", "--device", "rpi5", "--toolchain", "magic")
    assert (done.exit_code, "expected one of native, zig, gcc, ndk" in done.stderr) == (2, True)
    done = run("build", "--device", "host", "--toolchain", "zig")
    assert (done.exit_code, "cannot build for this machine" in done.stderr) == (2, True)
    assert "did you mean 'rpi5'?" in run("build", "--device", "rpi6").stderr


def test_an_engine_goes_out_and_comes_in(mini: Mini, tmp_path: Path) -> None:
    built = json.loads(run("build", "--json").stdout)
    target = tmp_path / "e.tar.gz"
    assert "would write edge-host-" in run("export", target, "--dry-run").stdout
    assert not target.exists()
    done = json.loads(run("export", target, "--json").stdout)
    assert done["key"] == built["key"]
    shutil.rmtree(Path(built["bin_dir"]).parent)
    missing = run("export", target)
    assert (missing.exit_code, "engine build --device host" in missing.stderr) == (1, True)
    wrong = run("import", target, "--sha256", "0" * 64)
    assert (wrong.exit_code, "expected 0000" in wrong.stderr) == (1, True)
    taken = json.loads(run("import", target, "--sha256", done["sha256"], "--json").stdout)
    assert taken["key"] == built["key"]
    listed = json.loads(run("list", "--json").stdout)
    assert [(row["is_current"], row["devices"]) for row in listed] == [(True, ["host"])]
