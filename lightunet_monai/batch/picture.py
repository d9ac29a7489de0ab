"""One 2-D image, from its file to the files of its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..inference import Predictor
from ..outputs import CaseReport, describe_case
from ..outputs.areas import measure_areas
from ..outputs.case import as_written
from ..outputs.picture import check_picture_output, write_picture_case
from ..review import write_picture_overview
from ..sources import ImageFile
from .settings import CaseSettings

Tell = Callable[[str, float], None]
"""Told (stage, fraction done)."""


def segment_picture(
    path: Path,
    folder: Path,
    settings: CaseSettings,
    open_model: Callable[[], Predictor],
    tell: Tell = lambda stage, fraction: None,
) -> CaseReport:
    """Take one 2-D image from its file to the files of its result.

    Parameters
    ----------
    path : Path
        PNG, JPEG, TIFF or single-frame DICOM.
    folder : Path
        Where the results go; it holds all of them afterwards, or is as it was.
    settings : CaseSettings
        Only ``formats`` and ``overwrite`` apply.
    open_model : callable
        Gives the predictor; called once the image is known to be readable.
    tell : callable
        Told (stage, fraction done).

    Returns
    -------
    CaseReport
        As written to ``report.json``, without the list of files.

    Raises
    ------
    LightUNetError
        Whatever reading, segmenting or writing refuses.
    """
    seconds: dict[str, float] = {}
    check_picture_output(folder, settings.formats, source=path, overwrite=settings.overwrite)
    start = time.perf_counter()
    predictor = open_model()
    seconds["open"] = time.perf_counter() - start
    # The bundle's own first step reads the image, with what the configuration says about windows (VOI).
    image = predictor.parts.preprocessing.transforms[0]({"image": path})["image"]  # type: ignore[attr-defined]
    seconds["read"] = time.perf_counter() - start - seconds["open"]
    prediction = predictor.segment(
        image, source=ImageFile(path), with_probability="probability" in settings.formats, progress=tell
    )
    tell("write", 0.0)
    report = describe_case(
        ImageFile(path),
        segmentation=prediction.segmentation,
        area=measure_areas(prediction.segmentation),
        seconds={**seconds, **prediction.seconds},
        warnings=prediction.warnings,
    )
    write_picture_case(
        folder,
        prediction.segmentation,
        image.as_tensor()[0, :, :, 0].numpy(),
        report,
        formats=settings.formats,
        overwrite=settings.overwrite,
        overview=write_picture_overview,
    )
    tell("write", 1.0)
    return as_written(report, folder) if settings.overwrite else report
