#!/bin/sh
# The whole pipeline on this machine, each step the command a user would type.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
model=${DEMO_MODEL:-models/plm-nano}
out=build/demo
mkdir -p "$out"

say() { printf '\n== %s\n' "$1"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}
made() { # newer than the checkpoint and the recipes: nothing to do; an older one makes room
    [ -e "$1" ] && [ -z "$(find "$model" quant converters plm_edge -newer "$1" -type f -name '*[!c]' -print -quit)" ] && return
    rm -f "$1"
    return 1
}

say "1/5 engines: ours and stock llama.cpp (first time 6 to 12 minutes on 2 cores, then cached)"
run plm-edge engine build
run plm-edge engine build --stock

say "2/5 convert $model to GGUF (seconds)"
for layout in edge stock; do
    made "$out/$layout.gguf" || run plm-edge convert "$model" -o "$out/$layout.gguf" --layout $layout --type f16
done

say "3/5 quantize to q4 and q8 (seconds)"
for recipe in q4 q8; do
    for layout in edge stock; do
        made "$out/$recipe.$layout.gguf" ||
            run plm-edge quantize "$out/$layout.gguf" -o "$out/$recipe.$layout.gguf" --recipe $recipe
    done
done

say "4/5 benchmark both beside stock llama.cpp (about a minute)"
for recipe in q4 q8; do
    run plm-edge bench "$out/$recipe.edge.gguf" --against stock --stock-file "$out/$recipe.stock.gguf" \
        --depth 0,512 --prompt 128 --gen 32 --repeats 3
done

say "5/5 ask it something"
run plm-edge chat "$out/q8.edge.gguf" -p "What does os.path.join do?" --max-tokens 48 --temperature 0
