"""Corrected segmentations as training cases: volume, label map and an entry of the datalist."""

from __future__ import annotations

import json
import os

import slicer

from .edits import ownSegmentIds
from .errors import ModuleError
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
        The model's label table, ``value`` and ``name``, as `inspect` gives it; a segment belongs to the label that is
        its identifier.

    Returns
    -------
    str
        Folder of the case.

    Raises
    ------
    ModuleError
        If nothing of the segmentation belongs to the model, or writing fails.
    """
    checkVolume(volume)
    values = {label["name"]: label["value"] for label in labels}
    segmentIds = [name for name in ownSegmentIds(segmentation) if name in values]
    if not segmentIds:
        raise ModuleError(
            "No segment belongs to a structure of the model.", "Correct a result of this module and save that."
        )
    os.makedirs(folder, exist_ok=True)
    datalist = readDatalist(folder)
    case = _newFolder(folder)
    os.rename(exportVolume(volume, case), os.path.join(case, IMAGE))
    _writeLabelMap(volume, segmentation, {name: values[name] for name in segmentIds}, os.path.join(case, LABEL))
    name = os.path.basename(case)
    entry = {"image": f"{name}/{IMAGE}", "label": f"{name}/{LABEL}"}
    total = len(datalist["training"]) + len(datalist["validation"]) + 1
    isValidation = total > 1 and len(datalist["validation"]) < VALIDATION_SHARE * total
    datalist["validation" if isValidation else "training"].append(entry)
    datalist["labels"] = {"0": "background", **{str(label["value"]): label["name"] for label in labels}}
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


def _writeLabelMap(volume, segmentation, values, path):
    import numpy

    labelMap = numpy.zeros(slicer.util.arrayFromVolume(volume).shape, numpy.uint8)
    for name, value in values.items():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, volume)
        if mask is not None:
            labelMap[mask > 0] = value
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.CopyOrientation(volume)
    slicer.util.updateVolumeFromArray(node, labelMap)
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(path)
    if not storage.WriteData(node):
        raise ModuleError(f"{path} cannot be written.", "Is there room on the disk?")
