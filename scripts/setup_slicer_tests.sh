#!/bin/sh
# Makes the environments in which the 3D Slicer module is tested: Slicer's real MRML without Qt (slicer-core), and
# PySide6 for the stand-ins of the window.
#
#   scripts/setup_slicer_tests.sh          slicer-core 5.12 (stable) in .venv-slicer
#   scripts/setup_slicer_tests.sh next     slicer-core 5.13 in .venv-slicer-next
#   scripts/setup_slicer_tests.sh view     trame-slicer in .venv-trame, for scripts/draw_slice_view.py (1 GB)
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.11}

make_environment() {
    test -x "$1/bin/python" || "$python" -m venv "$1"
    folder=$1
    shift
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

case "${1:-stable}" in
    stable) make_environment .venv-slicer "slicer-core>=5.12,<5.13" PySide6-Essentials pytest cmake jsonschema ;;
    next) make_environment .venv-slicer-next "slicer-core>=5.13,<5.14" PySide6-Essentials pytest ;;
    view) make_environment .venv-trame "trame-slicer[standalone]==2.0.0" ;;
    *)
        echo "usage: $0 [stable|next|view]" >&2
        exit 2
        ;;
esac
