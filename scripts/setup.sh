#!/bin/sh
# Makes .venv ready: checks the prerequisites, installs the package and its tools, once per change
# of pyproject.toml. Usage: scripts/setup.sh [EXTRA,...]   (extras: dev, torch)
set -eu
cd "$(dirname "$0")/.."
extras=${1:-dev}
venv=.venv

# pip only warns of an extra it does not know, and installs none of it.
for extra in $(printf '%s' "$extras" | tr ',' ' '); do
    case "$extra" in
    dev | torch) ;;
    *)
        echo "setup: unknown extra '$extra' (known: dev, torch)" >&2
        exit 1
        ;;
    esac
done

missing=""
need() { # tool, Debian package
    command -v "$1" >/dev/null 2>&1 || { echo "setup: $1 is not installed" >&2; missing="$missing $2"; }
}
need python3 python3
need cmake cmake
need git git
need c++ g++
need make make
if command -v python3 >/dev/null 2>&1; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "setup: $(python3 --version) is too old; plm-edge needs Python 3.10 or newer" >&2
        exit 1
    }
    # Debian splits venv off python3; ensurepip is the part that is missing then.
    python3 -c 'import venv, ensurepip' 2>/dev/null || {
        echo "setup: python3 has no venv module" >&2
        missing="$missing python3-venv"
    }
fi
if [ -n "$missing" ]; then
    echo "hint: sudo apt-get install$missing" >&2
    exit 1
fi

stamp="$venv/.installed-$(printf '%s' "$extras" | tr ',' '-')"
want=$( { cat pyproject.toml; python3 --version; } | cksum)
if [ -x "$venv/bin/plm-edge" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi
echo "setup: installing plm-edge into $venv (about a minute; longer on a slow network)"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
torch=""
case ",$extras," in
# torch: the version the numbers in docs/ were made with. transformers: upstream's own converter, which a
# test compares ours with, imports it.
*,torch,*) torch="torch==2.13.0 transformers==5.23.0" ;;
esac
# LLAMA_BUILD=OFF: the binding is only the Python side; the library is the engine we build ourselves.
CMAKE_ARGS="-DLLAMA_BUILD=OFF" "$venv/bin/python" -m pip install \
    --quiet --disable-pip-version-check --progress-bar on $torch -e ".[$extras]"
printf '%s' "$want" >"$stamp"
echo "setup: done"
