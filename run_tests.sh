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
python -m pytest "$@"
