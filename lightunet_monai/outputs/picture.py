"""All files of one 2-D image, written together or not at all: mask, report, picture, and NIfTI on request."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightunet_monai.errors import OutputError, UsageError
from lightunet_monai.segmentation import Segmentation

from .atomic import atomic_file, atomic_folder, check_folder
from .case import (
    MASK,
    OVERVIEW,
    REPORT,
    RESULT_NAMES,
    changed_files,
    describe_files,
    refuse_existing,
    refuse_source,
    with_kept,
)
from .formats import FORMATS
from .report import CaseReport, write_report

PICTURE_FORMATS = ("mask", "nifti", "probability")
"""Names for a 2-D image; the mask is always written."""

LESION_GREY = 255
"""Lesion in the mask; background is 0."""


class PictureOverviewWriter(Protocol):
    """Draws the contour on the image; `review.write_picture_overview` is the real one."""

    def __call__(self, segmentation: Segmentation, pixels: NDArray[np.generic], path: Path) -> Path:
        """Draw to `path`."""


def check_picture_output(
    output_dir: Path, formats: Sequence[str] = ("mask",), *, source: Path | None = None, overwrite: bool = False
) -> None:
    """Check, before anything is computed, that the results of a picture could be written.

    Raises
    ------
    UsageError
        If there is no format, or one does not exist for pictures.
    OutputError
        If a result is there already, `source` is one of the files to replace, or the folder cannot be written.
    """
    unknown = [name for name in formats if name not in PICTURE_FORMATS]
    if unknown or not formats:
        raise UsageError(
            f"formats: found {', '.join(unknown) or 'none'}, expected some of {', '.join(PICTURE_FORMATS)} "
            "for a 2-D image."
        )
    if not overwrite:
        refuse_existing(Path(output_dir))
    if source is not None:
        refuse_source(Path(output_dir), source)
    check_folder(Path(output_dir))


def write_picture_case(
    output_dir: Path,
    segmentation: Segmentation,
    pixels: NDArray[np.generic],
    report: CaseReport,
    *,
    formats: Sequence[str] = ("mask",),
    overwrite: bool = False,
    overview: PictureOverviewWriter | None = None,
) -> tuple[Path, ...]:
    """Write the files of one 2-D image: all of them or nothing.

    Parameters
    ----------
    output_dir : Path
        Created if it is missing.
    segmentation : Segmentation
        Of a picture.
    pixels : ndarray, shape (X, Y)
        The image as it was loaded.
    report : CaseReport
        The account so far; the files are added to it.
    formats : sequence of str
        Some of `PICTURE_FORMATS`.
    overwrite : bool
        As in `case.write_case`.
    overview : callable or None
        Draws ``overview.png``.

    Returns
    -------
    tuple of Path
        The files, the report last.

    Raises
    ------
    UsageError, OutputError
        As in `check_picture_output`, or if writing fails; `output_dir` is then as it was before.
    """
    output_dir = Path(output_dir)
    check_picture_output(output_dir, formats, overwrite=overwrite)
    written_names = {MASK, REPORT, *(FORMATS[name].file_name for name in formats if name != "mask")}
    if overview is not None:
        written_names.add(OVERVIEW)
    kept = changed_files(output_dir, written_names) if overwrite else ()
    report = with_kept(report, kept)
    refuse = None if overwrite else partial(refuse_existing, output_dir)
    with atomic_folder(output_dir, [name for name in RESULT_NAMES if name not in kept], refuse=refuse) as room:
        write_mask(segmentation, room / MASK)
        for name in formats:
            if name != "mask":
                FORMATS[name].writer(segmentation, room / FORMATS[name].file_name)
        if overview is not None:
            overview(segmentation, pixels, room / OVERVIEW)
        written = describe_files(room)
        write_report(report.with_files(written), room / REPORT)
    return (*(output_dir / item.name for item in written), output_dir / REPORT)


def write_mask(segmentation: Segmentation, path: Path) -> Path:
    """Write the label map of a picture as 8-bit grey PNG on its own pixels: 0 background, 255 lesion.

    Raises
    ------
    OutputError
        If the segmentation is of a volume, or the file cannot be written.
    """
    if not segmentation.is_picture:
        raise OutputError(f"{path}: a mask is for a 2-D image, found a volume.", hint="Use nifti.")
    mask = (segmentation.label_map[:, :, 0].T > 0).astype(np.uint8) * LESION_GREY  # (X, Y) -> (rows, columns)
    with atomic_file(Path(path)) as part:
        Image.fromarray(mask).save(part)
    return Path(path)
