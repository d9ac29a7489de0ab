"""What is asked of every case."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CaseSettings:
    """What is asked of every case; the model is the predictor's business.

    Parameters
    ----------
    formats : tuple of str
        Names from `outputs.FORMATS`.
    overwrite : bool
        Replace results that are already there.
    keep_empty_frames : bool
        Keep frames without a lesion in DICOM SEG.
    deterministic_uids : bool
        DICOM objects get the same UIDs when the same run is repeated.
    assume_hu : bool
        Take stored values as Hounsfield units where a DICOM header has no rescale.
    regularize : bool
        Resample a tilted or uneven series; the result is on its own slices, unless they are too uneven for that.
    """

    formats: tuple[str, ...] = ("nifti",)
    overwrite: bool = False
    keep_empty_frames: bool = False
    deterministic_uids: bool = False
    assume_hu: bool = False
    regularize: bool = False
