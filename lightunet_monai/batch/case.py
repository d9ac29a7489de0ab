"""One volume, from its source to the files of its result; the same for ``segment`` and ``batch``.

loaded = load_case(source, settings)
predicted = predict_case(loaded, predictor, settings)
write_case_files(predicted, folder, settings)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError
from ..inference import Prediction, Predictor
from ..inputs import Regularization, load_volume, plan_regularization, read_hu
from ..outputs import CaseReport, Findings, Stamp, check_output, describe_case, measure_lesions, write_case
from ..outputs.case import as_written
from ..outputs.formats import choose_formats
from ..review import write_overview
from ..segmentation import Segmentation
from ..sources import ImageSource
from .settings import CaseSettings

Tell = Callable[[str, float], None]
"""Told (stage, fraction done)."""


@dataclass
class LoadedCase:
    """A source with its volume, (1, X, Y, Z) in Hounsfield units, and the seconds spent so far."""

    source: ImageSource
    volume: Any
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class PredictedCase:
    """A loaded case with what the model made of it."""

    loaded: LoadedCase
    prediction: Prediction


def segment_case(
    source: ImageSource,
    folder: Path,
    settings: CaseSettings,
    open_model: Callable[[], Predictor],
    tell: Tell = lambda stage, fraction: None,
) -> CaseReport:
    """Take one volume from its source to the files of its result.

    Parameters
    ----------
    source : ImageSource
    folder : Path
        Where the results go; it holds all of them afterwards, or is as it was.
    settings : CaseSettings
    open_model : callable
        Gives the predictor; called once the volume has been read.
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
    check_output(folder, settings.formats, source=source, overwrite=settings.overwrite)
    loaded = load_case(source, settings)
    tell("open", 0.0)
    with _timed(loaded.seconds, "open"):
        predictor = open_model()
    predicted = predict_case(loaded, predictor, settings, tell)
    return write_case_files(predicted, folder, settings, tell)


def load_case(source: ImageSource, settings: CaseSettings) -> LoadedCase:
    """Read and decode the volume of a source.

    Raises
    ------
    InputError
        As `load_volume`.
    OutputError
        If the source is resampled, and a format stores probabilities or refers to slices that are uneven.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        volume = load_volume(source, assume_hu=settings.assume_hu, regularize=settings.regularize)
        regularization = plan_regularization(source) if settings.regularize else None
        if regularization is not None:
            _check_formats(source, regularization, settings)
    return LoadedCase(source, volume, seconds)


def _check_formats(source: ImageSource, regularization: Regularization, settings: CaseSettings) -> None:
    """Refuse, before the model runs, a format that could not express the result of a resampled source."""
    formats = choose_formats(settings.formats)
    names = [item.name for item in formats if item.needs_probability]
    if names and regularization.returns_to_slices:
        raise OutputError(
            f"format {', '.join(names)}: {source.name} is tilted or uneven, and --regularize gives no probabilities on "
            "its own slices.",
            hint=f"Leave {' and '.join(names)} out for this series.",
            reason="no-probability",
        )
    names = [item.name for item in formats if item.needs_series]
    if names and not regularization.returns_to_slices:
        raise OutputError(
            f"format {', '.join(names)}: {source.name} has uneven slices, up to {regularization.uneven_mm:.3f} mm off "
            "an even stack, and the result of --regularize is not on them, to which DICOM results must refer.",
            hint="Use nifti, nrrd or segnrrd for this series.",
            reason="other-grid",
        )


def predict_case(
    loaded: LoadedCase, predictor: Predictor, settings: CaseSettings, tell: Tell = lambda stage, fraction: None
) -> PredictedCase:
    """Run the model on a loaded case.

    Raises
    ------
    InputError, InferenceError
        As `Predictor.segment`.
    """
    prediction = predictor.segment(
        loaded.volume,
        source=loaded.source,
        with_probability=any(item.needs_probability for item in choose_formats(settings.formats)),
        progress=tell,
    )
    loaded.seconds.update(prediction.seconds)
    return PredictedCase(loaded, prediction)


def write_case_files(
    predicted: PredictedCase,
    folder: Path,
    settings: CaseSettings,
    tell: Tell = lambda stage, fraction: None,
    *,
    redact: Callable[[CaseReport], CaseReport] = lambda report: report,
) -> CaseReport:
    """Measure the lesions and write the files of a case: all of them or nothing.

    Parameters
    ----------
    predicted : PredictedCase
    folder : Path
    settings : CaseSettings
    tell : callable
        Told (stage, fraction done).
    redact : callable
        Gives the report as it may be written.

    Raises
    ------
    OutputError
        As `outputs.write_case`.
    """
    loaded, prediction = predicted.loaded, predicted.prediction
    source = loaded.source
    tell("measure", 0.0)
    with _timed(loaded.seconds, "measure"):
        segmentation, voxels = _on_result_grid(prediction.segmentation, loaded, settings)
        findings: Findings = measure_lesions(segmentation, voxels)
    tell("write", 0.0)
    report = redact(
        describe_case(
            source,
            segmentation=segmentation,
            findings=findings,
            seconds=loaded.seconds,
            warnings=prediction.warnings,
        )
    )
    write_case(
        folder,
        segmentation,
        formats=settings.formats,
        findings=findings,
        report=report,
        volume=voxels,
        overwrite=settings.overwrite,
        overview=write_overview,
        keep_empty_frames=settings.keep_empty_frames,
        stamp=Stamp.derived(segmentation) if settings.deterministic_uids else None,
    )
    tell("write", 1.0)
    return as_written(report, folder) if settings.overwrite else report


def _on_result_grid(
    segmentation: Segmentation, loaded: LoadedCase, settings: CaseSettings
) -> tuple[Segmentation, NDArray[np.generic]]:
    """Give segmentation and Hounsfield units on the source's own slices; of uneven ones, on the grid the model saw."""
    regularization = plan_regularization(loaded.source) if settings.regularize else None
    if regularization is None or not regularization.returns_to_slices:
        return segmentation, loaded.volume.as_tensor()[0].numpy()
    original = read_hu(loaded.source, dtype="float32", assume_hu=settings.assume_hu, allow_shear=True)
    label_map = regularization.to_source_slices(segmentation.label_map)
    # Probabilities are not carried over: interpolating them twice would no longer match the labels.
    moved = replace(segmentation, label_map=label_map, affine=original.affine, probability=None)
    return moved, original.voxels


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
