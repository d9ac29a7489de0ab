"""A segmentation as a label map file on the grid of its volume, with the values of the model's label table."""

from __future__ import annotations

import slicer

from .edits import lesionSegmentIds, ownSegmentIds
from .errors import ModuleError


def labelValues(segmentation, labels):
    """Give identifier and label value of the segments that belong to the model, a dict.

    Parameters
    ----------
    segmentation : vtkMRMLSegmentationNode
        Of this module; edited or not.
    labels : sequence of dict
        The model's label table, ``value`` and ``name``, as `inspect` gives it; a segment belongs to the label that is
        its identifier.

    Raises
    ------
    ModuleError
        If no segment is of this module, or one is of another model.
    """
    values = {label["name"]: label["value"] for label in labels}
    own = ownSegmentIds(segmentation)
    if not own:
        raise ModuleError(
            "No segment belongs to a structure of the model.", "Correct a result of this module and take that."
        )
    others = [name for name in own if name not in values]
    if others:
        raise ModuleError(
            f"The model in use has no label for {', '.join(others)}.",
            f"Choose the model that made {segmentation.GetName()}.",
        )
    return {name: values[name] for name in own}


def writeLabelMap(volume, segmentation, values, path):
    """Write segments as one label map; where they overlap, a voxel belongs to the lesion.

    Parameters
    ----------
    volume : vtkMRMLScalarVolumeNode
        Gives the grid.
    segmentation : vtkMRMLSegmentationNode
    values : dict of str to int
        As `labelValues` gives it.
    path : str
        ``.nrrd``.

    Raises
    ------
    ModuleError
        If writing fails.
    """
    import numpy

    labelMap = numpy.zeros(slicer.util.arrayFromVolume(volume).shape, numpy.uint8)
    lesions = lesionSegmentIds(segmentation)
    for name, value in sorted(values.items(), key=lambda item: item[0] in lesions):  # the last one stays
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
