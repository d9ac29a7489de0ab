"""DICOM SEG and SR of a segmentation, written by the package on the series the volume came from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil

import slicer

from .edits import isEdited, ownSegmentIds, segmentTag
from .errors import ModuleError, cannotWrite
from .interpreter import childEnvironment, chooseInterpreter
from .job import Job
from .label_maps import labelValues, writeLabelMap
from .parameters import ExportParameters
from .results import ALGORITHM_TYPE_TAG, AUTOMATIC, recordedRun
from .temporary import makeTemporaryFolder

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
    """Write into the segments whether the model alone drew them; Slicer's own DICOM export reads this.

    What a segment says of a person's hand is never taken back.
    """
    inner = segmentation.GetSegmentation()
    segments = [inner.GetSegment(name) for name in ownSegmentIds(segmentation)]
    isByModel = all(segmentTag(segment, ALGORITHM_TYPE_TAG) in ("", AUTOMATIC) for segment in segments)
    kind = AUTOMATIC if isByModel and not isEdited(segmentation) else "SEMIAUTOMATIC"
    for segment in segments:
        segment.SetTag(ALGORITHM_TYPE_TAG, kind)
    return kind


def startExport(segmentation, volume, labels, *, interpreter="", model="", database=None):
    """Start the job that writes SEG and SR of the segmentation as it is shown, edited or not.

    Parameters
    ----------
    segmentation : vtkMRMLSegmentationNode
        Of this module. Segments that people added to it are not of the model and are left out.
    volume : vtkMRMLScalarVolumeNode
        What it was drawn on; loaded from DICOM.
    labels : sequence of dict
        As in `labelValues`.
    interpreter, model : str
        As in `SegmentRun` and `RunParameters`.

    Returns
    -------
    Job
        Its folder holds the result in ``result``; `takeExport` copies it.

    Raises
    ------
    ModuleError
        If the DICOM files are not at hand, no segment is of the model, or there is no room for temporary files.
    """
    files = instanceFiles(volume, database)
    values = labelValues(segmentation, labels)
    kind = markEdited(segmentation)
    folder = makeTemporaryFolder()
    job = Job([], folder)
    try:
        labelMap = os.path.join(folder, "labelmap.nrrd")
        writeLabelMap(volume, segmentation, values, labelMap)
        options = ExportParameters(
            labelMap,
            _linkSeries(files, folder),
            os.path.join(folder, "result"),
            kind != "AUTOMATIC",
            _writeRun(segmentation, folder),
            model,
        )
    except OSError as error:
        job.close()
        raise cannotWrite(folder, error) from error
    except BaseException:
        job.close()
        raise
    command = [chooseInterpreter(interpreter), *options.toArguments()]
    return Job(command, folder, childEnvironment(interpreter)).start()


def _linkSeries(files, folder):
    series = os.path.join(folder, "series")
    os.mkdir(series)
    for number, path in enumerate(files):
        _link(path, os.path.join(series, f"{number:05d}.dcm"))
    return series


def _writeRun(segmentation, folder):
    """Write which model made the segmentation; the path, or ``""`` if that is not known."""
    run = recordedRun(segmentation)
    if run is None:
        return ""
    path = os.path.join(folder, "run.json")
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(run, stream)
    return path


def takeExport(job, destination):
    """Copy the DICOM files of a finished export, all or none, and remove its temporary folder.

    Returns
    -------
    list of str
        Paths of the copies.

    Raises
    ------
    ModuleError
        If the export failed, or copying.
    """
    copies = []
    try:
        if job.error is not None:
            raise job.error
        result = os.path.join(job.folder, "result")
        names = sorted(name for name in os.listdir(result) if name.endswith(".dcm"))
        os.makedirs(destination, exist_ok=True)
        for name in names:
            copies.append(_free(destination, name))
            shutil.copy(os.path.join(result, name), copies[-1])
        return copies
    except OSError as error:
        for path in copies:
            with contextlib.suppress(OSError):
                os.remove(path)
        raise cannotWrite(destination, error) from error
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
