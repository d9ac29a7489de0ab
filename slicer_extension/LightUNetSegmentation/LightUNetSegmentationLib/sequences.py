"""All frames of a volume sequence: the results become a sequence that plays in step."""

from __future__ import annotations

import slicer

from .batch import Batch
from .edits import dropProbability
from .errors import ModuleError
from .segment_run import SegmentRun


def browserOf(volume):
    """Give the sequence browser that shows this volume, or None."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.IsProxyNode(volume.GetID()):
            return browser
    return None


def segmentSequence(volume, makeRun=SegmentRun):
    """Make a batch of all frames of the sequence that `volume` shows; it was not started.

    Raises
    ------
    ModuleError
        If the volume belongs to no sequence.
    """
    browser = browserOf(volume) if volume is not None else None
    if browser is None:
        raise ModuleError("The volume belongs to no sequence.", "Choose a volume that a sequence browser shows.")
    source = browser.GetSequenceNode(volume)
    frames = [source.GetNthDataNode(index) for index in range(source.GetNumberOfDataNodes())]
    results = slicer.vtkMRMLSequenceNode()  # in the scene from the first result on
    results.SetName(slicer.mrmlScene.GenerateUniqueName(f"{volume.GetName()} segmentation"))
    results.SetIndexName(source.GetIndexName())
    results.SetIndexUnit(source.GetIndexUnit())
    results.SetIndexType(source.GetIndexType())
    for index in range(len(frames)):  # a frame without one would show that of the frame before it
        results.SetDataNodeAtValue(slicer.vtkMRMLSegmentationNode(), source.GetNthIndexValue(index))

    def onResult(index, run):
        node, run.segmentation = run.segmentation, None
        node.SetName(f"{volume.GetName()} segmentation")
        results.SetDataNodeAtValue(node, source.GetNthIndexValue(index))
        _remove(node)
        if results.GetScene() is None:
            slicer.mrmlScene.AddNode(results)
        if browser.GetProxyNode(results) is None:
            browser.AddSynchronizedSequenceNode(results)
        proxy = browser.GetProxyNode(results)
        if proxy is not None:
            proxy.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            proxy.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
            proxy.CreateDefaultDisplayNodes()

    return Batch(frames, makeRun, onResult)


def _remove(segmentation):
    dropProbability(segmentation)
    for index in range(segmentation.GetNumberOfDisplayNodes()):
        display = segmentation.GetNthDisplayNode(index)
        if display is not None:
            slicer.mrmlScene.RemoveNode(display)
    slicer.mrmlScene.RemoveNode(segmentation)
