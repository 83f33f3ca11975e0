#!/bin/sh
# The kernels' tests on one instruction set after the other: a build that holds a module for each, as a program
# for a whole family of devices would, and the same two test programs on all of them.
# Usage: scripts/test-isa.sh x86|arm [FILTER]
#   x86  what this CPU does not have is skipped
#   arm  cross-compiled, under qemu-user (apt-get install crossbuild-essential-arm64 qemu-user)
# FILTER runs only the cases whose names contain it.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
family=${1:?x86 or arm}
filter=${2:-}
out=$PWD/build/engine-tests
run=

set -- -DGGML_CCACHE="$(command -v ccache >/dev/null && echo ON || echo OFF)"
case $family in
x86)
    modules="x64 sse42 sandybridge haswell alderlake skylakex cascadelake icelake zen4"
    ;;
arm)
    modules="armv8.0_1 armv8.2_1 armv8.2_2 armv8.6_1"
    run="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu"
    set -- "$@" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
    ;;
*)
    echo "test-isa: unknown family '$family' (known: x86, arm)" >&2
    exit 2
    ;;
esac

python scripts/engine_tree.py "$out/src"
export CCACHE_BASEDIR="$out" CCACHE_NOHASHDIR=1 OMP_WAIT_POLICY=passive
cmake -G Ninja -S "$out/src/tests/plm-kernels" -B "$out/$family" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
    -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON "$@" >"$out/$family.log"
targets=
for module in $modules; do targets="$targets ggml-cpu-$module"; done
# shellcheck disable=SC2086  # a list of words
ninja -C "$out/$family" test-plm-attn test-plm-ffn $targets

bin=$out/$family/bin
failed=0
check() { # NAME CPU PROGRAM FILTER: what it printed is shown when it fails
    log=$out/$family-$1.log
    status=0
    # shellcheck disable=SC2086
    $run $2 "$3" "$4" >"$log" 2>&1 || status=$?
    case $status in
    0) printf '%-12s %s: %s\n' "$1" "$(basename "$3")" "$(tail -1 "$log")" ;;
    77) printf '%-12s skipped: not on this CPU\n' "$1" ;;
    *)
        printf '%-12s %s FAILED (%s)\n' "$1" "$(basename "$3")" "$log"
        grep FAIL "$log" | head -5 || tail -5 "$log"
        failed=1
        ;;
    esac
}

for module in $modules; do
    export PLM_TEST_BACKEND="$bin/libggml-cpu-$module.so"
    for test in test-plm-attn test-plm-ffn; do
        check "$module" "${run:+max}" "$bin/$test" "$filter"
    done
done
unset PLM_TEST_BACKEND

# the same programs left to choose their module, as an engine is that was built for a family of devices
if [ "$family" = arm ]; then
    for cpu in cortex-a72 cortex-a76 max; do
        check "$cpu" "$cpu" "$bin/test-plm-ffn" "${filter:-tokens=1 }"
        sed -n 's/.*\(libggml-cpu-.*\)\.so.*/             chose \1/p' "$out/arm-$cpu.log"
    done
fi
exit $failed
