"""Places a result in the study of its volume in the subject hierarchy."""

from __future__ import annotations

import slicer


def placeNextTo(node, volume):
    """Make `node` a sibling of `volume`: the same study of the same patient.

    Outside of a complete Slicer items are not made automatically, so a missing one is created.
    """
    scene = node.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None or volume.GetScene() is not scene:
        return
    volumeItem = hierarchy.GetItemByDataNode(volume)
    parent = hierarchy.GetItemParent(volumeItem) if volumeItem else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
