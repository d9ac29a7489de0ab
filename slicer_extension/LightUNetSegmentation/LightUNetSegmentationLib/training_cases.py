"""Corrected segmentations as training cases: volume, label map and an entry of the datalist."""

from __future__ import annotations

import json
import os
import shutil

from .errors import ModuleError, cannotWrite
from .label_maps import labelValues, writeLabelMap
from .volumes import checkVolume, exportVolume

DATALIST = "datalist.json"
VALIDATION_SHARE = 0.2
"""Of the cases; the second case is the first of validation."""
IMAGE, LABEL = "image.nrrd", "label.nrrd"


def readDatalist(folder):
    """Give the datalist of a folder; an empty one if there is none.

    Raises
    ------
    ModuleError
        If the file is damaged.
    """
    path = os.path.join(folder, DATALIST)
    if not os.path.exists(path):
        return {"labels": {}, "training": [], "validation": []}
    try:
        with open(path, encoding="utf-8") as stream:
            datalist = json.load(stream)
        return {**datalist, "training": datalist["training"], "validation": datalist.get("validation", [])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModuleError(f"{path} is damaged.", "Choose another folder for training cases.") from error


def countCases(folder):
    """Give (training, validation): how many cases a folder holds."""
    datalist = readDatalist(folder) if folder else {"training": [], "validation": []}
    return len(datalist["training"]), len(datalist["validation"])


def canTrain(folder):
    """Tell whether there is at least one case for training and one for validation."""
    try:
        return min(countCases(folder)) > 0
    except ModuleError:
        return False


def saveCase(volume, segmentation, folder, labels):
    """Write a volume and its segmentation as a training case.

    The folder of a case has a number for a name; nothing of the patient is written but the voxels.

    Parameters
    ----------
    volume : vtkMRMLScalarVolumeNode
        Hounsfield units.
    segmentation : vtkMRMLSegmentationNode
        As corrected; the label map is written on the grid of `volume`. An empty one is a case without a lesion.
    folder : str
        Holds the cases and ``datalist.json``.
    labels : sequence of dict
        As in `labelValues`.

    Returns
    -------
    str
        Folder of the case.

    Raises
    ------
    ModuleError
        If a segment does not belong to the model, the folder holds cases with other labels, or writing fails.
    """
    checkVolume(volume)
    values = labelValues(segmentation, labels)
    try:
        return _writeCase(volume, segmentation, folder, labels, values)
    except OSError as error:
        raise cannotWrite(folder, error) from error


def _writeCase(volume, segmentation, folder, labels, values):
    os.makedirs(folder, exist_ok=True)
    datalist = readDatalist(folder)
    table = {"0": "background", **{str(label["value"]): label["name"] for label in labels}}
    if datalist.get("labels", {}) not in ({}, table):
        raise ModuleError(
            f"The cases in {folder} have other labels: {', '.join(datalist['labels'].values())}.",
            "Choose another folder, or the model that made those cases.",
        )
    case = _newFolder(folder)
    try:
        os.rename(exportVolume(volume, case), os.path.join(case, IMAGE))
        writeLabelMap(volume, segmentation, values, os.path.join(case, LABEL))
    except BaseException:
        shutil.rmtree(case, ignore_errors=True)
        raise
    name = os.path.basename(case)
    entry = {"image": f"{name}/{IMAGE}", "label": f"{name}/{LABEL}"}
    total = len(datalist["training"]) + len(datalist["validation"]) + 1
    isValidation = total > 1 and len(datalist["validation"]) < VALIDATION_SHARE * total
    datalist["validation" if isValidation else "training"].append(entry)
    datalist["labels"] = table
    part = os.path.join(folder, DATALIST + ".part")
    with open(part, "w", encoding="utf-8", newline="\n") as stream:
        json.dump(datalist, stream, indent=1)
        stream.write("\n")
    os.replace(part, os.path.join(folder, DATALIST))
    return case


def _newFolder(folder):
    number = 1
    while True:
        case = os.path.join(folder, f"case-{number:04d}")
        try:
            os.mkdir(case)
            return case
        except FileExistsError:
            number += 1
