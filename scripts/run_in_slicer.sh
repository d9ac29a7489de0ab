#!/bin/sh
# Runs the tests of the module in a complete 3D Slicer.
#
#   scripts/run_in_slicer.sh /path/to/Slicer [PYTHON]
#
# PYTHON is a Python that has the package; without it, that of Slicer has to have it.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
if [ "$#" -lt 1 ]; then
    echo "usage: $0 /path/to/Slicer [PYTHON]" >&2
    exit 2
fi
slicer=$1
LIGHTUNET_CHILD_PYTHON=${2:-}
export LIGHTUNET_CHILD_PYTHON
exec "$slicer" --testing --no-splash --ignore-slicerrc \
    --additional-module-paths "$here/slicer_extension/LightUNetSegmentation" \
    --python-script "$here/scripts/run_in_slicer.py"
