#!/bin/sh
# Builds the engine's tests under a sanitizer, and runs them and a small model from end to end.
# Usage: scripts/sanitize.sh address|thread
#   address  addresses and undefined behaviour, all of the engine
#   thread   races, in ggml, which is all that has threads; the rest is the engine that is in the cache
# The tree is kept in build/engine-tests, so that a second run compiles what changed and no more.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
root=$PWD
out=$root/build/engine-tests
kind=${1:?address or thread}
case $kind in
address)
    flags="-fsanitize=address,undefined -fno-sanitize-recover=all"
    source=$out/src
    targets="test-plm-attn test-plm-ffn test-llama-archs llama-completion"
    set -- -DLLAMA_BUILD_TESTS=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_NUMBER=0 \
        -DLLAMA_BUILD_COMMIT=unknown
    ;;
thread)
    flags="-fsanitize=thread"
    source=$out/src/tests/plm-kernels
    targets=all
    # OpenMP's runtime is not instrumented, so its barriers would not be seen: ggml's own threads instead
    set -- -DGGML_OPENMP=OFF
    ;;
*)
    echo "sanitize: unknown sanitizer '$kind' (known: address, thread)" >&2
    exit 2
    ;;
esac

python scripts/engine_tree.py "$out/src"
export CCACHE_BASEDIR="$out" CCACHE_NOHASHDIR=1 OMP_WAIT_POLICY=passive
cmake -G Ninja -S "$source" -B "$out/$kind" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -g1" "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1" \
    "-DCMAKE_C_FLAGS=$flags -fno-omit-frame-pointer" "-DCMAKE_CXX_FLAGS=$flags -fno-omit-frame-pointer" \
    -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=ON \
    -DGGML_CCACHE="$(command -v ccache >/dev/null && echo ON || echo OFF)" "$@" >"$out/$kind.log"
# shellcheck disable=SC2086  # a list of words
ninja -C "$out/$kind" $targets

# leaks are left alone: upstream's logger is one on purpose
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
bin=$out/$kind/bin
run() { # PROGRAM...: what it printed is shown when it fails
    printf 'sanitize %s: %s\n' "$kind" "$(basename "$1")"
    status=0
    LD_PRELOAD="$preload" "$@" >"$out/$kind-run.log" 2>&1 </dev/null || status=$?
    [ $status = 0 ] && return
    tail -60 "$out/$kind-run.log"
    exit 1
}
preload=
run "$bin/test-plm-attn"
run "$bin/test-plm-ffn"

completion=$bin/llama-completion
case $kind in
address) run "$bin/test-llama-archs" -a plm ;;
thread)
    rm -rf "$out/engine"
    programs=$(plm-edge engine show --json | python -c 'import json, sys; print(json.load(sys.stdin)["bin_dir"])')
    cp -r "$(dirname "$programs")" "$out/engine"
    cp -P "$bin"/libggml*.so* "$out/engine/lib"
    completion=$out/engine/bin/llama-completion
    preload=$(cc -print-file-name=libtsan.so)
    ;;
esac
prompt=$(for _ in 1 2 3 4 5 6 7 8 9 10; do printf 'the quick brown fox jumps over the lazy dog; '; done)
for layout in edge stock; do
    model=$out/small.$layout.gguf
    [ -e "$model" ] ||
        plm-edge convert "$root/models/plm-nano-random" -o "$model" --layout $layout --type q8_0
    for cache in f16 q8_0 f32; do
        # past the end of the context, so that it is shifted
        run "$completion" -m "$model" -ctk $cache -t 2 --poll 0 -c 256 -n 80 --context-shift --ignore-eos \
            -no-cnv --temp 0 -p "$prompt"
    done
done
