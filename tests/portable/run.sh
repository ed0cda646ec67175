#!/usr/bin/env bash
# One exported file in many runtimes: installs what that needs and runs the tests of this folder.
#
#   tests/portable/run.sh [PYTEST ARGUMENTS]
#
# Needs Node 20 or newer with npm, and the project's .venv with the kernel library (`make setup`).
# PYTHON names another interpreter than .venv's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-.venv/bin/python}
folder=build/portable

if ! command -v npm >/dev/null; then
  echo "npm is not installed: onnxruntime-web needs Node 20 or newer, with npm" >&2
  exit 1
fi
"$python" -m pip install --quiet --disable-pip-version-check -r tests/portable/requirements.txt
mkdir -p "$folder"
cp tests/portable/package.json "$folder/"
npm install --prefix "$folder" --prefer-offline --ignore-scripts --no-package-lock --no-audit \
  --no-fund --loglevel=error

export QRNN_DEPLOY_TESTS_REQUIRE=kernel,openvino,onnxruntime-web,charlm
exec "$python" -m pytest tests/portable "$@"
