"""Another threshold on the probability map of a result, without running the model again."""

from __future__ import annotations

import math

import slicer
import vtk

from .edits import PROBABILITY_ROLE, ownSegmentIds, rememberAsMade
from .errors import ModuleError
from .measure import findPieces, measureLesions
from .results import (
    ALGORITHM_TYPE_TAG,
    AUTOMATIC,
    MODEL_THRESHOLD,
    REFUSE,
    THRESHOLD,
    checkReplaceable,
    recordLesions,
    show,
)


def canReapply(segmentation):
    """Tell whether a threshold can be applied: one structure, and its probability map is in the scene."""
    return segmentation is not None and not whyNotReapply(segmentation)


def whyNotReapply(segmentation):
    """Say why no threshold can be applied; ``""`` if it can."""
    if segmentation.GetNodeReference(PROBABILITY_ROLE) is None:
        return "This segmentation has no probability map."
    if len(ownSegmentIds(segmentation)) != 1:
        return "Which tissue lies under a lesion is not known: no threshold can be applied to a result with tissues."
    return ""


def recordedThreshold(segmentation, otherwise=0.5):
    """Give the threshold a segmentation is drawn at."""
    return _number(segmentation, THRESHOLD, otherwise)


def modelThreshold(segmentation):
    """Give the threshold a segmentation was made with, the model's own."""
    return _number(segmentation, MODEL_THRESHOLD, recordedThreshold(segmentation))


def _number(segmentation, name, otherwise):
    try:
        return float(segmentation.GetAttribute(name))
    except (TypeError, ValueError):
        return otherwise


def reapplyThreshold(segmentation, threshold, volume=None, history=None, whenEdited=REFUSE):
    """Redraw the structure as the voxels whose probability is at least `threshold`; measure again.

    Parameters
    ----------
    segmentation : vtkMRMLSegmentationNode
        A result of this module.
    threshold : float
        0 to 1, exclusive.
    volume : vtkMRMLScalarVolumeNode or None
        For the mean HU of the lesions.
    history : EditHistory or None
        Takes a snapshot first.
    whenEdited : str
        As in `replaceResult`.

    Returns
    -------
    list of dict
        The lesions.

    Raises
    ------
    EditedSegmentationError
        If the user has edited the structure.
    ModuleError
        If there is no probability map.
    """
    reason = whyNotReapply(segmentation)
    if reason:
        raise ModuleError(reason, "Segment the volume again.")
    checkReplaceable(segmentation, whenEdited)
    if history is not None:
        history.save(segmentation)
    (segmentId,) = ownSegmentIds(segmentation)
    diameter = float(segmentation.GetAttribute("LightUNet.MinimumDiameter") or 0.0)
    image = _atLeast(segmentation.GetNodeReference(PROBABILITY_ROLE), threshold, diameter)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, segmentation, segmentId)
    segmentation.GetSegmentation().GetSegment(segmentId).SetTag(ALGORITHM_TYPE_TAG, AUTOMATIC)
    segmentation.SetAttribute(MODEL_THRESHOLD, repr(modelThreshold(segmentation)))
    segmentation.SetAttribute(THRESHOLD, repr(float(threshold)))
    rememberAsMade(segmentation)
    show(segmentation)
    lesions = measureLesions(segmentation, volume)
    recordLesions(segmentation, lesions)
    return lesions


def _atLeast(probability, threshold, minimumDiameter):
    """Voxels with at least this probability, without pieces below a sphere of the diameter (mm) the model named."""
    cut = vtk.vtkImageThreshold()
    cut.SetInputData(probability.GetImageData())
    cut.ThresholdByUpper(threshold)
    cut.SetInValue(1)
    cut.SetOutValue(0)
    cut.SetOutputScalarTypeToUnsignedChar()
    cut.Update()
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(cut.GetOutput())
    matrix = vtk.vtkMatrix4x4()
    probability.GetIJKToRASMatrix(matrix)
    fewest = math.ceil(math.pi / 6 * minimumDiameter**3 / abs(matrix.Determinant()))
    if fewest > 1:
        _removePieces(image, fewest)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def _removePieces(image, fewest):
    """Set 26-connected pieces of fewer voxels than this to 0, in place."""
    import numpy
    from vtk.util.numpy_support import vtk_to_numpy

    labels = findPieces(image)
    sizes = numpy.bincount(labels.ravel())
    keep = sizes >= fewest
    keep[0] = False
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = keep[labels].ravel()
