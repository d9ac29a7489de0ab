"""Was a segmentation edited since the model made it, and the way back after a replacement."""

from __future__ import annotations

import dataclasses
import hashlib

import slicer
import vtk

FINGERPRINT = "LightUNet.Fingerprint"
"""Attribute of the segmentation, of all segments of the model; and tag of each of them, which goes with it into another
segmentation and through a file."""
MEASURED = "LightUNet.Measured"
"""Attribute: the fingerprint of the lesions that were measured last."""
OWN_TAG = "LightUNet.ModelVersion"
"""Tag of the segments that come from the model; the user's own segments do not carry it."""
LESION_TAG = "LightUNet.Lesions"
"""Tag of those of them that hold lesions; tissues do not carry it."""
PROBABILITY_ROLE = "lightunet.probability"
"""Of the node reference from a segmentation to its probability map."""
KEPT_STATES = 5


def ownSegmentIds(segmentation):
    """Give the identifiers of the segments that the model made, in the order of the segmentation."""
    inner = segmentation.GetSegmentation()
    identifiers = [inner.GetNthSegmentID(index) for index in range(inner.GetNumberOfSegments())]
    return [name for name in identifiers if segmentTag(inner.GetSegment(name), OWN_TAG)]


def lesionSegmentIds(segmentation):
    """Give those of `ownSegmentIds` that hold lesions: all of them, if none says so."""
    own, inner = ownSegmentIds(segmentation), segmentation.GetSegmentation()
    return [name for name in own if segmentTag(inner.GetSegment(name), LESION_TAG)] or own


def tissueSegmentIds(segmentation):
    """Give those of `ownSegmentIds` that hold tissues."""
    lesions = lesionSegmentIds(segmentation)
    return [name for name in ownSegmentIds(segmentation) if name not in lesions]


def referenceVolume(segmentation):
    """Give the volume that a segmentation belongs to, or None."""
    return segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())


def dropProbability(segmentation):
    """Remove the probability map of a segmentation, if it has one."""
    probability = segmentation.GetNodeReference(PROBABILITY_ROLE)
    if probability is not None:
        segmentation.GetScene().RemoveNode(probability)


def segmentTag(segment, name):
    """Give the value of a tag, ``""`` if it is missing."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def segmentImage(segmentation, segmentId):
    """Give one segment as a binary image cut to its voxels, or None if it is empty.

    Returns
    -------
    vtkOrientedImageData or None
        Unsigned char, 0 and 1, with its own voxel to world matrix.
    """
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(segmentId, image)
    extent = [0, -1] * 3
    if image.GetNumberOfPoints() == 0 or not slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(
        image, extent
    ):
        return None
    if any(extent[2 * axis] > extent[2 * axis + 1] for axis in range(3)):
        return None
    extract = vtk.vtkExtractVOI()
    extract.SetInputData(image)
    extract.SetVOI(extent)
    threshold = vtk.vtkImageThreshold()
    threshold.SetInputConnection(extract.GetOutputPort())
    threshold.ThresholdByUpper(1)  # a bound of 0.5 would be cut to 0 for whole numbers
    threshold.SetInValue(1)
    threshold.SetOutValue(0)
    threshold.SetOutputScalarTypeToUnsignedChar()
    threshold.Update()
    cut = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    cut.DeepCopy(threshold.GetOutput())
    cut.SetGeometryFromImageToWorldMatrix(matrix)
    return cut


def segmentFingerprint(segmentation, segmentId):
    """Give a hash of the voxels of a segment and where they lie; names and colours do not count."""
    digest = hashlib.sha256()
    image = segmentImage(segmentation, segmentId)
    if image is not None:
        digest.update(repr(_canonicalPlace(image)).encode("ascii"))
        digest.update(memoryview(image.GetPointData().GetScalars()))
    return digest.hexdigest()


def rememberAsMade(segmentation):
    """Record the present voxels as what the model gave; the findings of the run belong to them."""
    prints = _fingerprints(segmentation, ownSegmentIds(segmentation))
    for name, value in prints.items():
        segmentation.GetSegmentation().GetSegment(name).SetTag(FINGERPRINT, value)
    segmentation.SetAttribute(FINGERPRINT, _joined(prints))
    segmentation.SetAttribute(MEASURED, _joined({name: prints[name] for name in lesionSegmentIds(segmentation)}))


def isEdited(segmentation):
    """Tell whether voxels of the model's segments differ from what the model gave.

    Where nothing tells what it gave, a person may have had a hand in them: they count as edited.
    """
    prints = _fingerprints(segmentation, ownSegmentIds(segmentation))
    recorded = segmentation.GetAttribute(FINGERPRINT)
    if recorded:
        return recorded != _joined(prints)
    inner = segmentation.GetSegmentation()
    return any(segmentTag(inner.GetSegment(name), FINGERPRINT) != value for name, value in prints.items())


def rememberAsMeasured(segmentation):
    """Record the present voxels of the lesions as those that were measured."""
    segmentation.SetAttribute(MEASURED, _joined(_fingerprints(segmentation, lesionSegmentIds(segmentation))))


def isAsMeasured(segmentation):
    """Tell whether the lesions are as they were when they were measured last."""
    recorded = segmentation.GetAttribute(MEASURED)
    return bool(recorded) and recorded == _joined(_fingerprints(segmentation, lesionSegmentIds(segmentation)))


def _fingerprints(segmentation, segmentIds):
    return {name: segmentFingerprint(segmentation, name) for name in sorted(segmentIds)}


def _joined(prints):
    """One hash of several segments, of their identifiers too: one that is missing counts."""
    return hashlib.sha256(repr(sorted(prints.items())).encode("utf-8")).hexdigest()


def _canonicalPlace(image):
    """World position of the first voxel to a hundredth of a millimetre, and the size of the box."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    extent = image.GetExtent()
    corner = matrix.MultiplyPoint((extent[0], extent[2], extent[4], 1.0))[:3]
    # Rounded twice: counted from another origin, a place such as 0.075 may be half a hundredth less 1e-15.
    return [round(round(value, 6), 2) + 0.0 for value in corner], image.GetDimensions()


class EditHistory:
    """Snapshots of segmentations before they are replaced; the last one can be brought back."""

    def __init__(self):
        self._histories = {}

    def save(self, segmentation):
        """Take a snapshot."""
        history, accounts = self._histories.get(segmentation.GetID(), (None, []))
        if history is None:
            history = slicer.vtkSegmentationHistory()
            history.SetMaximumNumberOfStates(KEPT_STATES)
            history.SetSegmentation(segmentation.GetSegmentation())
        history.SaveState()
        accounts = [*accounts, _Account.of(segmentation)][-KEPT_STATES:]
        self._histories[segmentation.GetID()] = (history, accounts)

    def canRestore(self, segmentation):
        """Tell whether there is a snapshot to go back to."""
        if segmentation is None or segmentation.GetID() not in self._histories:
            return False
        history, accounts = self._histories[segmentation.GetID()]
        return bool(accounts) and history.IsRestorePreviousStateAvailable()

    def restore(self, segmentation):
        """Bring the last snapshot back, with the account of the run, the volume and the transform that belong to it.

        The probability map of the run that is undone is removed. Segments of the user stay as they are now.
        """
        if not self.canRestore(segmentation):
            return False
        history, accounts = self._histories[segmentation.GetID()]
        theirs = _segmentsOfTheUser(segmentation)
        history.RestorePreviousState()
        _giveBack(segmentation, theirs)
        accounts.pop().giveBackTo(segmentation)
        return True

    def clear(self):
        """Forget all snapshots."""
        self._histories.clear()


def _segmentsOfTheUser(segmentation):
    """Copies of the segments that the model did not make, by their identifiers."""
    inner, copies = segmentation.GetSegmentation(), {}
    for index in range(inner.GetNumberOfSegments()):
        name = inner.GetNthSegmentID(index)
        if not segmentTag(inner.GetSegment(name), OWN_TAG):
            copies[name] = slicer.vtkSegment()
            copies[name].DeepCopy(inner.GetSegment(name))
    return copies


def _giveBack(segmentation, segments):
    """Put segments of the user in the place of their earlier states; those of the model keep their identifiers."""
    inner, own = segmentation.GetSegmentation(), ownSegmentIds(segmentation)
    for name, segment in segments.items():
        if name in own:
            inner.AddSegment(segment, inner.GenerateUniqueSegmentID(name))
            continue
        inner.RemoveSegment(name)
        inner.AddSegment(segment, name)


@dataclasses.dataclass(frozen=True)
class _Account:
    """What a snapshot holds beside the segments."""

    attributes: dict
    probability: str | None
    volume: str | None
    transform: str | None

    @classmethod
    def of(cls, segmentation):
        role = segmentation.GetReferenceImageGeometryReferenceRole()
        return cls(
            _attributes(segmentation),
            segmentation.GetNodeReferenceID(PROBABILITY_ROLE),
            segmentation.GetNodeReferenceID(role),
            segmentation.GetTransformNodeID(),
        )

    def giveBackTo(self, segmentation):
        for name in _attributes(segmentation).keys() - self.attributes.keys():
            segmentation.RemoveAttribute(name)
        for name, value in self.attributes.items():
            segmentation.SetAttribute(name, value)
        if segmentation.GetNodeReferenceID(PROBABILITY_ROLE) != self.probability:
            dropProbability(segmentation)
        scene = segmentation.GetScene()
        volume, transform = (
            name if name and scene.GetNodeByID(name) else None for name in (self.volume, self.transform)
        )
        segmentation.SetNodeReferenceID(segmentation.GetReferenceImageGeometryReferenceRole(), volume)
        segmentation.SetAndObserveTransformNodeID(transform)


def _attributes(segmentation):
    return {name: segmentation.GetAttribute(name) for name in segmentation.GetAttributeNames() if "LightUNet" in name}
