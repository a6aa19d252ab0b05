#!/bin/sh
# Makes .venv hold exactly what requirements/$1.txt pins ($1: base or dev). Does nothing when it already does.
set -eu
cd "$(dirname "$0")/.."
wanted="requirements/$1.txt"
installed=".venv/$1.installed"
if [ -x .venv/bin/python ] && cmp -s "$wanted" "$installed"; then
    exit 0
fi
python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed; $python is not. Name another one with: make PYTHON=python3.12 ..." >&2
    exit 2
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "Creating .venv"
    # A half-made environment (Debian without python3-venv) would pass for a whole one the next time.
    "$python" -m venv --clear .venv || { rm -rf .venv; exit 2; }
fi
echo "Installing $wanted"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
cp "$wanted" "$installed"
