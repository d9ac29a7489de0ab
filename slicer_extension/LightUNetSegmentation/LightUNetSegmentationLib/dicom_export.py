"""DICOM SEG and SR of a result, made by the package from the series the volume came from."""

from __future__ import annotations

import os
import shutil
import tempfile

import slicer

from .edits import isEdited, ownSegmentIds
from .errors import EditedSegmentationError, ModuleError
from .interpreter import childEnvironment, chooseInterpreter
from .job import Job
from .parameters import DICOM_FORMATS, RunParameters
from .results import ALGORITHM_TYPE_TAG
from .segment_run import FOLDER_PREFIX, _temporaryPath
from .threshold import recordedThreshold

INSTANCES = "DICOM.instanceUIDs"


def instanceFiles(volume, database=None):
    """Give the DICOM files a volume was loaded from.

    Raises
    ------
    ModuleError
        If the volume was not loaded from DICOM, or files are no longer in the database.
    """
    identifiers = (volume.GetAttribute(INSTANCES) or "").split() if volume is not None else []
    if not identifiers:
        raise ModuleError(
            "The volume was not loaded from DICOM, and a DICOM result must refer to a series.",
            "Load the series from the DICOM browser.",
        )
    database = database if database is not None else getattr(slicer, "dicomDatabase", None)
    files = [database.fileForInstance(name) for name in identifiers] if database is not None else []
    missing = sum(not path or not os.path.exists(path) for path in files) if files else len(identifiers)
    if missing:
        raise ModuleError(
            f"{missing} of {len(identifiers)} DICOM files are not in the database.", "Import the series again."
        )
    return files


def markEdited(segmentation):
    """Write into the segments whether the model alone drew them; Slicer's own DICOM export reads this."""
    kind = "SEMIAUTOMATIC" if isEdited(segmentation) else "AUTOMATIC"
    for name in ownSegmentIds(segmentation):
        segmentation.GetSegmentation().GetSegment(name).SetTag(ALGORITHM_TYPE_TAG, kind)
    return kind


def startExport(segmentation, volume, *, interpreter="", parameters=None, database=None):
    """Start the job that writes SEG and SR of the unedited result.

    The package segments the series itself, so that every reference to it is right; an edited segmentation would not
    be what it writes, and is left to Slicer's own export.

    Returns
    -------
    Job
        Its folder holds the result in ``result``; `takeExport` copies it.

    Raises
    ------
    EditedSegmentationError
        If the segmentation was edited.
    ModuleError
        If the DICOM files are not at hand.
    """
    if markEdited(segmentation) != "AUTOMATIC":
        raise EditedSegmentationError(
            "The segmentation was edited, and this export writes what the model alone drew.",
            "Export it with Slicer: right click on it in the Data module, Export to DICOM. Codes and the algorithm "
            "type SEMIAUTOMATIC are set.",
        )
    files = instanceFiles(volume, database)
    parameters = parameters or RunParameters()
    folder = tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=_temporaryPath())
    series = os.path.join(folder, "series")
    os.mkdir(series)
    for number, path in enumerate(files):
        _link(path, os.path.join(series, f"{number:05d}.dcm"))
    options = RunParameters(
        device=parameters.device,
        engine=parameters.engine,
        threads=parameters.threads,
        modelFolder=parameters.modelFolder,
        threshold=recordedThreshold(segmentation),
        formats=DICOM_FORMATS,
    )
    command = [chooseInterpreter(interpreter), *options.toArguments(series, os.path.join(folder, "result"))]
    return Job(command, folder, childEnvironment(interpreter)).start()


def takeExport(job, destination):
    """Copy the DICOM files of a finished export and remove its temporary folder.

    Returns
    -------
    list of str
        Paths of the copies.
    """
    try:
        if job.error is not None:
            raise job.error
        result = os.path.join(job.folder, "result")
        names = sorted(name for name in os.listdir(result) if name.endswith(".dcm"))
        os.makedirs(destination, exist_ok=True)
        return [shutil.copy(os.path.join(result, name), _free(destination, name)) for name in names]
    finally:
        job.close()


def _free(folder, name):
    """A path in `folder` that is not taken: nothing is overwritten."""
    stem, suffix = os.path.splitext(name)
    path, number = os.path.join(folder, name), 1
    while os.path.exists(path):
        number += 1
        path = os.path.join(folder, f"{stem}-{number}{suffix}")
    return path


def _link(source, target):
    try:
        os.link(source, target)
    except OSError:  # another disk, or a system without hard links
        shutil.copyfile(source, target)
