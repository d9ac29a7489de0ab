#!/bin/sh
# From nothing to a tumour label map: scripts/demo.sh [STUDY]
# Without an argument the study is a breast CT that the simulator writes as DICOM.
set -eu
here="$(cd "$(dirname "$0")/.." && pwd)"
study="${1:-}"
[ -z "$study" ] || study="$(cd "$(dirname "$study")" && pwd)/$(basename "$study")"
cd "$here"

sh scripts/setup.sh
lightunet=.venv/bin/lightunet
formats=nifti,segnrrd,seg,sr
if [ -z "$study" ]; then
  rm -rf demo/study
  study=demo/study/images/case_0001
  echo "simulating a breast CT study as DICOM ..."
  "$lightunet" simulate -n 1 --seed 8 --format dicom --size 256 -o demo/study --quiet >/dev/null
fi
"$lightunet" inspect "$study" || true # segment says the same, and stops
case "$("$lightunet" inspect "$study" --json | tr -d ' \n')" in
  *'"kind":"file"'*) formats=nifti,segnrrd ;; # DICOM objects refer to DICOM instances
esac
"$lightunet" segment "$study" -o demo/result --formats "$formats" --overwrite
echo
echo "label map   demo/result/labelmap.nii.gz"
echo "3D Slicer   demo/result/labelmap.seg.nrrd"
[ ! -e demo/result/segmentation.dcm ] || echo "DICOM SEG   demo/result/segmentation.dcm, DICOM SR demo/result/findings_sr.dcm"
echo "report      demo/result/report.json"
echo "picture     demo/result/overview.png"
