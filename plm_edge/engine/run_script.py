"""The script that starts a bundled model: it needs no more than a POSIX shell and /proc.

What would end in SIGILL, in the out-of-memory killer or in "not executable" is said before.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

_TEXT = r"""#!/bin/sh
# Runs @TITLE@ on this device. Nothing is installed; everything stays in this folder.
#   sh run.sh                chat in this terminal
#   sh run.sh serve          OpenAI-compatible server on 127.0.0.1:8080
#   sh run.sh bench          tokens per second
#   sh run.sh check          compare every file with its sha256
# CTX=4096 sh run.sh sets the context, THREADS=2 the threads; further words go to the program.
set -eu
cd "$(dirname "$0")"

needs=@NEEDS@
model=@MODEL@
big_cores=@BIG_CORES@

fail() { echo "run.sh: $*" >&2; exit 1; }

what=${1:-chat}
[ $# -gt 0 ] && shift
case $what in
  check) exec sha256sum -c SHA256SUMS ;;
  chat|serve|bench) ;;
  *) fail "unknown: $what; chat, serve, bench or check" ;;
esac

[ -f "$model" ] || fail "$model is missing: copy the whole folder"
missing=
for need in $needs; do
  grep -qw "$need" /proc/cpuinfo || missing="$missing $need"
done
[ -z "$missing" ] ||
  fail "this CPU ($(uname -m)) has no$missing: bundle for another device (plm-edge device list)"
chmod +x bin/* 2>/dev/null || true
bin/llama-bench --help >/dev/null 2>&1 ||
  fail "programs cannot run from $(pwd): copy the folder to a disk that is not noexec" \
    "(on Android: /data/local/tmp)"

# Everything that is mapped and all that is computed with it must fit.
free_kb=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
model_kb=$(($(stat -c %s "$model" 2>/dev/null || wc -c < "$model") / 1024))
if [ -n "$free_kb" ] && [ "$free_kb" -lt $((model_kb + 400000)) ]; then
  echo "run.sh: $((model_kb / 1024)) MB of model, $((free_kb / 1024)) MB of memory free:" \
    "it may be killed; end what is not needed, or bundle a smaller recipe" >&2
fi

cores=$(nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo)
[ "$cores" -le "$big_cores" ] || cores=$big_cores
threads=${THREADS:-$cores}
context=${CTX:-2048}
export TMPDIR="${TMPDIR:-.}"

case $what in
  chat) exec bin/llama-completion -m "$model" -t "$threads" -c "$context" -cnv "$@" ;;
  serve) exec bin/llama-server -m "$model" -t "$threads" -c "$context" --host 127.0.0.1 "$@" ;;
  bench) exec bin/llama-bench -m "$model" -t "$threads" -fa auto -p 512 -n 32 "$@" ;;
esac
"""
# Of a device whose big cores nobody knows: all of them.
_ALL_CORES = 1024


@dataclass(frozen=True)
class Settings:
    """What the script must know of model and device."""

    title: str
    model_name: str
    features: tuple[str, ...]
    big_cores: int | None


def text(settings: Settings) -> str:
    """The script; names with blanks and quotes in them are safe."""
    title = " ".join(settings.title.split())  # a line feed would end the comment
    values = {
        "@TITLE@": title,
        "@NEEDS@": shlex.quote(" ".join(settings.features)),
        # "./" keeps a name with a leading dash from being an option.
        "@MODEL@": shlex.quote(f"./{settings.model_name}"),
        "@BIG_CORES@": str(settings.big_cores or _ALL_CORES),
    }
    script = _TEXT
    for mark, value in values.items():
        script = script.replace(mark, value)
    return script
