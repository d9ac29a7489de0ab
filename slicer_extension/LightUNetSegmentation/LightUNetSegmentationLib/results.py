"""The files of a run become a segmentation: named, coloured, coded, in its place, with where it came from."""

from __future__ import annotations

import json

import slicer

from .edits import (
    PROBABILITY_ROLE,
    EditHistory,
    dropProbability,
    isEdited,
    ownSegmentIds,
    referenceVolume,
    rememberAsMade,
    rememberAsMeasured,
    segmentTag,
    tissueSegmentIds,
)
from .errors import EditedSegmentationError, ModuleError
from .report import resultFile
from .subjects import placeNextTo

ALGORITHM_TYPE_TAG, AUTOMATIC = "DICOM.SegmentAlgorithmType", "AUTOMATIC"
ALGORITHM_NAME_TAG = "DICOM.SegmentAlgorithmName"
KIND = "LightUNet.Kind"
"""Attribute of volumes that this module made, so that a batch leaves them out."""
FINDINGS = "LightUNet.Findings"
STATEMENT = "LightUNet.Statement"
DENSITY = "LightUNet.BreastDensity"
DOUBTFUL = "LightUNet.Doubtful"
"""Attribute: the fibroglandular share of the breast, 0 to 1; missing where tissues are not labelled."""
THRESHOLD, MODEL_THRESHOLD = "LightUNet.Threshold", "LightUNet.ModelThreshold"
"""Attributes: the threshold the segmentation is drawn at, and the one it was made with."""
TISSUE_OPACITY = 0.25
"""Of the fill of tissues in the slice views: the image and the lesions stay visible."""

REFUSE, REPLACE = "refuse", "replace"


def loadResult(report, folder, volume, name, scene=None):
    """Make a segmentation of the files of a run.

    Everything a segment carries (identifier, name, colour, terminology, algorithm tags, version and hash of the
    weights) stands in the file, so nothing of it is repeated here.

    Parameters
    ----------
    report : dict
        As `readReport` gives it.
    folder : str
        Holds the files; they are not needed afterwards.
    volume : vtkMRMLScalarVolumeNode
        What was segmented.
    name : str
        Of the new node.

    Returns
    -------
    vtkMRMLSegmentationNode

    Raises
    ------
    ModuleError
        If the file cannot be read.
    """
    scene = scene or slicer.mrmlScene
    segmentation = slicer.vtkMRMLSegmentationNode()
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(resultFile(report, folder, "segnrrd"))
    segmentation = scene.AddNode(segmentation)
    segmentation.SetName(scene.GenerateUniqueName(name))
    if not storage.ReadData(segmentation):
        scene.RemoveNode(segmentation)
        raise ModuleError("The segmentation file cannot be read.", "Copy the diagnostics and report the problem.")
    _checkAlgorithmTags(segmentation, report)
    attach(segmentation, volume)
    describeRun(segmentation, report)
    loadProbability(segmentation, report, folder, volume)
    rememberAsMade(segmentation)
    show(segmentation)
    return segmentation


def attach(segmentation, volume):
    """Tie a segmentation to its volume: reference geometry, transform, study."""
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    if volume.GetScene() is segmentation.GetScene():
        segmentation.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    placeNextTo(segmentation, volume)


def describeRun(segmentation, report):
    """Write where the segmentation came from into its attributes, which are saved with the scene."""
    model, run = report.get("model") or {}, report.get("run") or {}
    findings = report.get("findings") or {}
    threshold = repr((run.get("settings") or {}).get("threshold", ""))
    values = {
        "LightUNet.Model": model.get("name", ""),
        "LightUNet.ModelVersion": model.get("version", ""),
        "LightUNet.WeightsSHA256": model.get("weights_sha256", ""),
        "LightUNet.Engine": run.get("engine", ""),
        "LightUNet.Device": run.get("device", ""),
        THRESHOLD: threshold,
        MODEL_THRESHOLD: threshold,
        "LightUNet.MinimumDiameter": repr((run.get("settings") or {}).get("minimum_diameter", 0.0)),
        "LightUNet.Created": report.get("created", ""),
        "LightUNet.Warnings": json.dumps(report.get("warnings", [])),
        STATEMENT: report.get("statement", ""),
        FINDINGS: json.dumps(findings.get("lesions", [])),
        DOUBTFUL: json.dumps(report.get("doubtful", [])),
    }
    for name, value in values.items():
        segmentation.SetAttribute(name, str(value))
    density = findings.get("breast_density")
    segmentation.SetAttribute(DENSITY, None if density is None else repr(density))


def recordedRun(segmentation):
    """Give model and run of a segmentation, in the form of a report, as its attributes tell; None if they do not."""
    if not segmentation.GetAttribute("LightUNet.WeightsSHA256"):
        return None

    def number(name):
        try:
            return float(segmentation.GetAttribute(name))
        except (TypeError, ValueError):
            return None

    settings = {"threshold": number(THRESHOLD), "minimum_diameter": number("LightUNet.MinimumDiameter")}
    return {
        "model": {
            "name": segmentation.GetAttribute("LightUNet.Model"),
            "version": segmentation.GetAttribute("LightUNet.ModelVersion"),
            "weights_sha256": segmentation.GetAttribute("LightUNet.WeightsSHA256"),
        },
        "run": {
            "engine": segmentation.GetAttribute("LightUNet.Engine"),
            "device": segmentation.GetAttribute("LightUNet.Device"),
            "settings": {name: value for name, value in settings.items() if value is not None},
        },
    }


def recordedLesions(segmentation):
    """Give the lesions that were measured last, a list of dict; empty if there are none."""
    text = segmentation.GetAttribute(FINDINGS) if segmentation is not None else None
    return json.loads(text) if text else []


def recordLesions(segmentation, lesions):
    """Write the lesions that were measured, a list of dict, and that they are those of the present voxels."""
    segmentation.SetAttribute(FINDINGS, json.dumps(lesions))
    rememberAsMeasured(segmentation)


def recordedDensity(segmentation):
    """Give the breast density that the model measured, 0 to 1; None without tissues, or once the result was edited."""
    text = segmentation.GetAttribute(DENSITY) if segmentation is not None else None
    return float(text) if text and not isEdited(segmentation) else None


def recordedDoubtful(segmentation):
    """Give the places that the model drew and left out of this result, a list of dict, the surest first.

    Of another threshold, or once the result was edited, nothing is known: an empty list.
    """
    text = segmentation.GetAttribute(DOUBTFUL) if segmentation is not None else None
    if not text or isEdited(segmentation):
        return []
    isMoved = segmentation.GetAttribute(THRESHOLD) != segmentation.GetAttribute(MODEL_THRESHOLD)
    return [] if isMoved else json.loads(text)


def loadProbability(segmentation, report, folder, volume):
    """Load the probability map as a hidden volume that the segmentation refers to."""
    try:
        path = resultFile(report, folder, "probability")
    except ModuleError:
        return None
    probability = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(path)
    probability.SetName(f"{segmentation.GetName()} probability")
    probability.SetAttribute(KIND, "probability")
    probability.SetHideFromEditors(True)
    probability = segmentation.GetScene().AddNode(probability)
    if not storage.ReadData(probability):
        segmentation.GetScene().RemoveNode(probability)
        return None
    if volume.GetScene() is probability.GetScene():
        probability.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    dropProbability(segmentation)
    segmentation.SetNodeReferenceID(PROBABILITY_ROLE, probability.GetID())
    return probability


def replaceResult(target, new, history=None, whenEdited=REFUSE):
    """Put the segments of a new result in the place of an older one; other segments of the target stay.

    The target then belongs to the volume of the new result: reference geometry, transform, study.

    Parameters
    ----------
    target : vtkMRMLSegmentationNode
        What the user chose to replace.
    new : vtkMRMLSegmentationNode
        Removed from the scene afterwards.
    history : EditHistory or None
        Takes a snapshot first, so that the replacement can be undone.
    whenEdited : str
        ``"refuse"`` raises if the user has edited the target, ``"replace"`` goes on.

    Returns
    -------
    vtkMRMLSegmentationNode
        The target.

    Raises
    ------
    EditedSegmentationError
        If the target was edited and must not be replaced; both nodes are then as they were.
    """
    volume = referenceVolume(new)
    checkReplaceable(target, whenEdited, volume)
    (history or EditHistory()).save(target)
    inner, source = target.GetSegmentation(), new.GetSegmentation()
    for name in ownSegmentIds(target):
        inner.RemoveSegment(name)
    for name in ownSegmentIds(new):
        if inner.GetSegment(name) is not None:
            _moveAside(inner, name)
        inner.CopySegmentFromSegmentation(source, name)
    target.RemoveAttribute(DENSITY)
    for name in new.GetAttributeNames():
        target.SetAttribute(name, new.GetAttribute(name))
    dropProbability(target)
    probability = new.GetNodeReference(PROBABILITY_ROLE)
    if probability is not None:
        target.SetNodeReferenceID(PROBABILITY_ROLE, probability.GetID())
        new.SetNodeReferenceID(PROBABILITY_ROLE, None)
    new.GetScene().RemoveNode(new)
    if volume is not None:
        attach(target, volume)
    rememberAsMade(target)
    show(target)
    return target


def _moveAside(inner, name):
    """Give a segment of the user, which happens to have the identifier of one of ours, another identifier."""
    copy = slicer.vtkSegment()
    copy.DeepCopy(inner.GetSegment(name))
    inner.RemoveSegment(name)
    inner.AddSegment(copy, inner.GenerateUniqueSegmentID(name))


def checkReplaceable(target, whenEdited=REFUSE, volume=None):
    """Check that a segmentation may be replaced.

    Parameters
    ----------
    target : vtkMRMLSegmentationNode
    whenEdited : str
        ``"replace"`` allows everything.
    volume : vtkMRMLScalarVolumeNode or None
        What the new result belongs to.

    Raises
    ------
    EditedSegmentationError
        If it was edited, made by somebody else, belongs to another volume, or holds segments of the user that would
        move because the volume lies under another transform.
    """
    if whenEdited == REPLACE:
        return
    count, own = target.GetSegmentation().GetNumberOfSegments(), len(ownSegmentIds(target))
    former = referenceVolume(target)
    if count and volume is not None and former is not None and former is not volume:
        raise EditedSegmentationError(
            f"{target.GetName()} belongs to {former.GetName()}, not to {volume.GetName()}.",
            "Keep it and add a new result, or replace it.",
        )
    if count > own and volume is not None and target.GetTransformNodeID() != volume.GetTransformNodeID():
        raise EditedSegmentationError(
            f"{target.GetName()} holds segments of yours and lies under another transform than {volume.GetName()}.",
            "Keep it and add a new result, or replace it: your segments move with the transform then.",
        )
    if isEdited(target) or (count and not own):
        raise EditedSegmentationError(
            f"{target.GetName()} holds edits that would be lost.", "Keep them and add a new result, or replace them."
        )


def show(segmentation):
    """Show the segmentation in the slice views and, where it holds lesions alone, as a surface in 3-D.

    Tissues fill the breast: their surfaces take seconds to build and would hide the lesions.
    """
    tissues = tissueSegmentIds(segmentation)
    segmentation.CreateDefaultDisplayNodes()
    display = segmentation.GetDisplayNode()
    if display is not None:
        display.SetVisibility(True)
        display.SetVisibility2DFill(True)
        display.SetVisibility2DOutline(True)
        display.SetVisibility3D(not tissues)
        for name in tissues:
            display.SetSegmentOpacity2DFill(name, TISSUE_OPACITY)
            display.SetSegmentVisibility3D(name, False)
    segmentation.RemoveClosedSurfaceRepresentation()
    if not tissues:
        segmentation.CreateClosedSurfaceRepresentation()


def _checkAlgorithmTags(segmentation, report):
    """A result without these tags would be exported to DICOM as drawn by hand."""
    for name in ownSegmentIds(segmentation):
        segment = segmentation.GetSegmentation().GetSegment(name)
        if not segmentTag(segment, ALGORITHM_TYPE_TAG):
            segment.SetTag(ALGORITHM_TYPE_TAG, AUTOMATIC)
        if not segmentTag(segment, ALGORITHM_NAME_TAG):
            segment.SetTag(ALGORITHM_NAME_TAG, (report.get("model") or {}).get("name", ""))
