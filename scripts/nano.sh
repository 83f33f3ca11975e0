#!/bin/sh
# plm-nano from nothing: text, tokenizer, three phases of pre-training, two of fine-tuning, preference rounds.
# Each step is the command a user would type; interrupted, the same script goes on where it stopped.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
out=${NANO_OUT:-build/nano}
data=$out/data
tokenizer=$out/tokenizer

run() {
    printf '$ plm-edge %s\n' "$*"
    plm-edge "$@"
}
train() { # NAME RECIPE [START]
    run train run "$2" --data "$data" -o "$out/$1" --threads 1 ${3:+--start-from "$out/$3"}
}

[ -e "$data/index.json" ] || run train data "$data" --tokenizer "$tokenizer"
train base nano
train sft-general nano-sft-general base
train sft-code nano-sft-code sft-general
run train prefer nano-aries --start-from "$out/sft-code" --tokenizer "$tokenizer" -o "$out/aries" --threads 1
run train export "$out/aries" -o "$out/model" --tokenizer "$tokenizer"

measure() { # NAME MODEL [OPTIONS...]: held-out figures into $out/eval/NAME.json
    name=$1
    model=$2
    shift 2
    [ -e "$out/eval/$name.json" ] && return
    mkdir -p "$out/eval"
    printf '$ plm-edge train evaluate %s %s\n' "$out/$model" "$*"
    plm-edge train evaluate "$out/$model" --data "$data" --tokenizer "$tokenizer" --threads 1 --json \
        "$@" >"$out/eval/$name.part"
    mv "$out/eval/$name.part" "$out/eval/$name.json"
}
for name in base sft-general sft-code aries; do
    measure $name $name --answers 0 --shard test --shard sft-general-test --shard sft-code-test
done
measure model model --answers 80
measure forced model --answers 0 --force 0.5,0.8,0.9,0.95,0.97,0.99

printf 'nano: made %s; the shipped model on the same text, for comparison:\n' "$out/model"
run train evaluate models/plm-nano --data "$data" --threads 1 --answers 0
run train evaluate "$out/model" --data "$data" --threads 1 --answers 0
