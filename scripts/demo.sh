#!/bin/sh
# From nothing to a tumour label map: scripts/demo.sh [STUDY]
# Without an argument the study is a breast CT that the simulator writes as DICOM.
set -eu
here="$(cd "$(dirname "$0")/.." && pwd)"
study="${1:-}"
if [ -n "$study" ]; then
  [ -e "$study" ] || { echo "error: $study: no such file or folder" >&2; exit 2; }
  folder="$(cd "$(dirname "$study")" && pwd)"
  study="$folder/$(basename "$study")"
fi
cd "$here"

sh scripts/setup.sh
lightunet=.venv/bin/lightunet
if [ -z "$study" ]; then
  rm -rf demo/study
  study=demo/study/images/case_0001
  echo "simulating a breast CT study as DICOM ..."
  "$lightunet" simulate -n 1 --seed 8 --format dicom --size 256 -o demo/study --quiet >/dev/null
fi
"$lightunet" inspect "$study" || true # segment says the same, and stops
# DICOM objects refer to DICOM instances, which a NIfTI, NRRD or MetaImage file has not.
formats="$({ "$lightunet" inspect "$study" --json || true; } | .venv/bin/python -c '
import json, sys
study = json.load(sys.stdin)["study"]
kinds = [source["kind"] for source in study["sources"] if source["selector"] == study["choice"]["selector"]]
print("nifti,segnrrd" if kinds == ["file"] else "nifti,segnrrd,seg,sr")')"
"$lightunet" segment "$study" -o demo/result --formats "$formats" --overwrite
echo
echo "label map   demo/result/labelmap.nii.gz"
echo "3D Slicer   demo/result/labelmap.seg.nrrd"
[ ! -e demo/result/segmentation.dcm ] || echo "DICOM SEG   demo/result/segmentation.dcm, DICOM SR demo/result/findings_sr.dcm"
echo "report      demo/result/report.json"
echo "picture     demo/result/overview.png"
