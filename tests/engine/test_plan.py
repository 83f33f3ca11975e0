"""The key: whatever changes the binaries changes it, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from plm_edge.engine.plan import BuildPlan, Toolchain, Variant, host_plan
from tests.engine.conftest import EDGE_NAME, FILES, Mini, hook

HOST = Toolchain("host", ("gcc 12",), ("x86_64", "avx2"))


def plan_of(mini: Mini, variant: Variant = "edge", toolchain: Toolchain = HOST) -> BuildPlan:
    return BuildPlan(variant, mini.load(), ("-DA=1",), ("llama",), toolchain)


def test_equal_plans_have_equal_keys(mini: Mini) -> None:
    assert plan_of(mini).key == plan_of(mini).key
    assert plan_of(mini).key.startswith("edge-host-")


def test_everything_that_matters_changes_the_key(mini: Mini, tmp_path: Path) -> None:
    plan = plan_of(mini)
    toolchain_file = tmp_path / "rpi5.cmake"
    toolchain_file.write_text("set(A 1)", encoding="utf-8")
    keys = [
        plan.key,
        plan_of(mini, "stock").key,
        replace(plan, flags=("-DA=2",)).key,
        replace(plan, targets=("llama", "llama-bench")).key,
        replace(plan, toolchain=replace(HOST, compiler=("gcc 13",))).key,
        replace(plan, toolchain=replace(HOST, cpu=("x86_64", "avx2", "avx512f"))).key,
        replace(plan, toolchain=replace(HOST, file=toolchain_file)).key,
    ]
    toolchain_file.write_text("set(A 2)", encoding="utf-8")
    keys.append(replace(plan, toolchain=replace(HOST, file=toolchain_file)).key)
    mini.add_source("src/more.c", "int more;\n")
    keys.append(plan_of(mini).key)
    mini.add_patch("0002-change-more.patch", hook("src/name.c", EDGE_NAME, FILES["src/name.c"]))
    keys.append(plan_of(mini).key)
    mini.pin("1" * 64)
    keys.append(plan_of(mini).key)
    assert len(set(keys)) == len(keys)


def test_patches_do_not_touch_the_stock_key_nor_the_build_folder(mini: Mini) -> None:
    stock, edge = plan_of(mini, "stock"), plan_of(mini)
    mini.add_source("src/more.c", "int more;\n")
    assert plan_of(mini, "stock").key == stock.key
    assert plan_of(mini).key != edge.key
    assert plan_of(mini).slot == edge.slot


def test_tests_are_found_by_name(mini: Mini) -> None:
    mini.add_source("tests/test-plm-ffn.cpp", "int main() {}\n")
    mini.add_source("tests/test-plm-ffn.h", "")
    assert plan_of(mini).test_targets == ("test-llama-archs", "test-plm-ffn")
    assert plan_of(mini, "stock").test_targets == ("test-llama-archs",)


def test_the_host_plan_is_native_shared_and_downloads_nothing(mini: Mini) -> None:
    plan = host_plan("edge", mini.load())
    assert {"-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=ON"} <= set(plan.flags)
    assert {"-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF"} <= set(plan.flags)
    assert "llama-server" in plan.targets
    assert "llama-server" not in host_plan("stock", mini.load()).targets
