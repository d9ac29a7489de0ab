#!/bin/sh
# Set everything up and run the tests. Arguments go to pytest: scripts/test.sh tests/unit -k tiling
set -eu
cd "$(dirname "$0")/.."

sh scripts/setup.sh test,lint,train,mlflow,interop,cluster,deidentify,metrics,projection
sh scripts/setup_test_tools.sh
PYTHON=.venv/bin/python sh scripts/setup_slicer_tests.sh || echo "The tests of the 3D Slicer module will be skipped."
[ "$#" -gt 0 ] || set -- -n 2 --dist worksteal
exec .venv/bin/python -m pytest "$@"
