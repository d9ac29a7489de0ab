"""Step 3: a segmentation becomes files.

The names are loaded when they are first used, because importing highdicom and nibabel takes a second and the
Slicer module only needs the report.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .case import check_output, write_case
    from .dicom_seg import write_dicom_seg
    from .dicom_sr import write_dicom_sr
    from .findings import Findings, measure_lesions, write_findings_csv, write_findings_json
    from .formats import FORMATS
    from .nifti import write_nifti, write_probability
    from .nrrd import write_nrrd
    from .report import CaseReport, describe_case, write_report
    from .rtstruct import write_rtstruct
    from .seg_nrrd import write_seg_nrrd
    from .surface import write_surface
    from .uids import Stamp

_HOMES = {
    "FORMATS": "formats",
    "CaseReport": "report",
    "Findings": "findings",
    "Stamp": "uids",
    "check_output": "case",
    "describe_case": "report",
    "measure_lesions": "findings",
    "write_case": "case",
    "write_dicom_seg": "dicom_seg",
    "write_dicom_sr": "dicom_sr",
    "write_findings_csv": "findings",
    "write_findings_json": "findings",
    "write_nifti": "nifti",
    "write_nrrd": "nrrd",
    "write_probability": "nifti",
    "write_report": "report",
    "write_rtstruct": "rtstruct",
    "write_seg_nrrd": "seg_nrrd",
    "write_surface": "surface",
}

__all__ = [
    "FORMATS",
    "CaseReport",
    "Findings",
    "Stamp",
    "check_output",
    "describe_case",
    "measure_lesions",
    "write_case",
    "write_dicom_seg",
    "write_dicom_sr",
    "write_findings_csv",
    "write_findings_json",
    "write_nifti",
    "write_nrrd",
    "write_probability",
    "write_report",
    "write_rtstruct",
    "write_seg_nrrd",
    "write_surface",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
