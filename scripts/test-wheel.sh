#!/bin/sh
# Builds the wheel, installs it into a clean environment and runs the part of the suite that needs no
# engine from there, outside the checkout, so that a file missing from the wheel shows.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
venv=build/wheel-venv
rm -rf build/wheel build/wheel-run
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/wheel .
[ -x $venv/bin/python ] || python3 -m venv $venv
CMAKE_ARGS="-DLLAMA_BUILD=OFF" $venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --progress-bar on "$(ls build/wheel/*.whl)[dev]"
$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/wheel/*.whl
mkdir -p build/wheel-run
cp -r tests models pyproject.toml build/wheel-run/
cd build/wheel-run
"$top/$venv/bin/plm-edge" --version
for kind in converter recipe device; do
    "$top/$venv/bin/plm-edge" $kind validate >/dev/null
done
"$top/$venv/bin/python" -m pytest -q -p no:cacheprovider --deselect tests/test_guards.py \
    -m "not engine and not slow and not network and not device and not gpu" \
    --ignore tests/test_guards.py --ignore tests/parity --ignore tests/docs --ignore tests/devices
