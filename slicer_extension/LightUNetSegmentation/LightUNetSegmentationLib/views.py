"""Brings the views of the window to a place."""

from __future__ import annotations

import slicer


def jumpTo(point, node=None):
    """Centre all slice views, the crosshair and the 3-D cameras on a point.

    Parameters
    ----------
    point : sequence of 3 float
        RAS, mm, in the frame of `node`.
    node : vtkMRMLTransformableNode or None
        A transform above it is applied.

    Returns
    -------
    tuple of float
        The point in world coordinates.
    """
    world = [float(value) for value in point]
    if node is not None:
        moved = [0.0, 0.0, 0.0]
        node.TransformPointToWorld(world, moved)
        world = moved
    scene = slicer.mrmlScene
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *world, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is not None:
        crosshair.SetCrosshairRAS(*world)
    for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
        _centreCamera(camera, world)
    return tuple(world)


def showVolume(volume):
    """Make the volume the background of the slice views."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(volume.GetID())


def _centreCamera(camera, world):
    position, focus = [0.0] * 3, [0.0] * 3
    camera.GetPosition(position)
    camera.GetFocalPoint(focus)
    camera.SetFocalPoint(world)
    camera.SetPosition([p + w - f for p, w, f in zip(position, world, focus)])
