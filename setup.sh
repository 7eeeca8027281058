#!/usr/bin/env bash
# Make .venv and install the pinned versions. Run again, it takes a second.
#
#   PYTHON=python3.12 bash setup.sh       another interpreter (3.11 or newer)
#   MEDTUNE_TORCH=2.13.0+cu130 bash setup.sh     another build of torch
#
# torch goes first and alone, so that nothing below it can bring in a second one. On a machine
# without an NVIDIA GPU the CPU build is asked for first; where the package sources have none, the
# standard build is taken, and that is said.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { echo "setup.sh: $*" >&2; exit 1; }

PYTHON=${PYTHON:-python3}
TORCH=2.13.0
STAMP=.venv/.installed
wanted=$(cat setup.sh requirements.txt constraints.txt | cksum)
[ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ] && exit 0

command -v "$PYTHON" >/dev/null || fail "Python 3.11 or newer is missing (looked for '$PYTHON'; set PYTHON=)"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is missing: '$PYTHON' is $("$PYTHON" -V 2>&1)"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || fail "the venv module is missing (Debian: apt install python3-venv)"

# Two processes must not install at once; the second one waits and finds the work done.
mkdir -p .venv || fail "could not make .venv here (disk full, or no right to write?)"
exec 9>.venv/.lock
! command -v flock >/dev/null || flock 9
[ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$wanted" ] && exit 0

echo "setup.sh: installing into .venv (once, a few minutes)"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || fail "could not make .venv (disk full?)"
pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input "$@"; }

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }
install_torch() {
    if [ -n "${MEDTUNE_TORCH:-}" ]; then pip install "torch==$MEDTUNE_TORCH"; return; fi
    if has_gpu || [ "$(uname -s)" != Linux ]; then pip install "torch==$TORCH"; return; fi
    pip install "torch==$TORCH+cpu" 2>/dev/null && return
    echo "setup.sh: no CPU build of torch $TORCH in the package sources (PyTorch's CPU index as" \
        "PIP_EXTRA_INDEX_URL would give one): taking the standard build, several gigabytes"
    pip install "torch==$TORCH"
}
.venv/bin/python -c "import torch, sys; sys.exit(not torch.__version__.startswith('${MEDTUNE_TORCH:-$TORCH}'))" 2>/dev/null ||
    install_torch || fail "torch $TORCH could not be installed: see pip's message above (no network, or no package source?)"
pip install --requirement requirements.txt --constraint constraints.txt ||
    fail "a package of requirements.txt could not be installed: see pip's message above (no network?)"
echo "$wanted" >"$STAMP"
echo "setup.sh: done"
