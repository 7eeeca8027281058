#!/usr/bin/env bash
# Set up, check style and types, run the tests. Any option of pytest may follow.
#   bash run_tests.sh -k merge
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bash setup.sh
PATH="$PWD/.venv/bin:$PATH"
ruff format --check .
ruff check .
mypy
python data/build_data.py --check
# Two files at a time. Each process has one core, but for the chain, whose numbers stand for two;
# threads that wait do not spin, which would take the core from the other test.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
