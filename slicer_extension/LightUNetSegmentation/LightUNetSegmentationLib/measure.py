"""Lesions of a segmentation as it is now, after an edit or another threshold.

The definitions are those of the package (``findings``): lesions are 26-connected, the surface lies half-way between
voxel centres inside and outside, axial diameters are those of the plane with the largest one. A test compares both.
"""

from __future__ import annotations

import math

import slicer
import vtk

from .edits import lesionSegmentIds, segmentImage

_DIRECTIONS = 200
"""Directions in which extreme points are looked for before the exact search for the largest diameter."""


def measureLesions(segmentation, volume=None, segmentIds=None):
    """Measure each lesion, the largest first.

    Parameters
    ----------
    segmentation : vtkMRMLSegmentationNode
        Sizes and places are those of its own frame.
    volume : vtkMRMLScalarVolumeNode or None
        Hounsfield units; None leaves the mean out. May lie under another transform than the segmentation.
    segmentIds : sequence of str or None
        None takes those of lesions that the model made.

    Returns
    -------
    list of dict
        ``number``, ``label``, ``voxels``, ``volume_ml``, ``feret_diameter_mm``, ``axial_long_axis_mm``,
        ``axial_short_axis_mm``, ``centroid_ras_mm`` and, with a volume, ``mean_hu``.
    """
    lesions = []
    for segmentId in lesionSegmentIds(segmentation) if segmentIds is None else segmentIds:
        image = segmentImage(segmentation, segmentId)
        if image is not None:
            lesions += _measureImage(image, segmentId, volume, segmentation.GetParentTransformNode())
    lesions.sort(key=lambda lesion: (-lesion["voxels"], [-round(v, 3) for v in lesion["centroid_ras_mm"][::-1]]))
    for number, lesion in enumerate(lesions, start=1):
        lesion["number"] = number
    return lesions


def _measureImage(image, label, volume, transform=None):
    import numpy

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    extent = image.GetExtent()
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    lesions = []
    for places in _voxelsOfPieces(findPieces(image)):
        index = places[:, ::-1] + [extent[0], extent[2], extent[4]]  # K, J, I to I, J, K
        mask, box = _cutOut(places, index)
        points = _surfacePoints(mask, box) @ affine[:3, :3].T + affine[:3, 3]
        centres = index @ affine[:3, :3].T + affine[:3, 3]
        long, short = _axialSize(mask, box, affine)
        lesion = {
            "label": label,
            "voxels": len(index),
            "volume_ml": round(len(index) * abs(numpy.linalg.det(affine[:3, :3])) / 1000, 4),
            "feret_diameter_mm": round(_largestDistance(points), 4),
            "axial_long_axis_mm": round(long, 4),
            "axial_short_axis_mm": round(short, 4),
            "centroid_ras_mm": [round(float(v), 4) for v in centres.mean(axis=0)],
        }
        if volume is not None:
            mean = _meanIntensity(volume, _betweenFrames(centres, transform, volume.GetParentTransformNode()))
            lesion["mean_hu"] = None if mean is None else round(mean, 4)
        lesions.append(lesion)
    return lesions


def _voxelsOfPieces(components):
    """Places (K, J, I) of each piece's voxels, the pieces by their numbers; the array is searched once for all."""
    import numpy

    places = numpy.argwhere(components)
    values = components[tuple(places.T)]
    order = numpy.argsort(values, kind="stable")
    return numpy.split(places[order], numpy.cumsum(numpy.bincount(values)[1:])[:-1]) if len(values) else []


def _cutOut(places, index):
    """The smallest array (K, J, I) that holds these voxels, and its extent on the grid of `index` (I, J, K)."""
    import numpy

    low, high = index.min(axis=0), index.max(axis=0)
    mask = numpy.zeros((high - low + 1)[::-1], bool)
    mask[tuple((places - places.min(axis=0)).T)] = True
    return mask, [int(end) for axis in range(3) for end in (low[axis], high[axis])]


def findPieces(image):
    """26-connected components, the largest first: array (K, J, I) of int."""
    from vtk.util.numpy_support import vtk_to_numpy

    plain = vtk.vtkImageData()
    plain.DeepCopy(image)
    plain.SetOrigin(0, 0, 0)
    plain.SetSpacing(1, 1, 1)
    cast = vtk.vtkImageCast()
    cast.SetInputData(plain)
    cast.SetOutputScalarTypeToInt()
    islands = slicer.vtkITKIslandMath()
    islands.SetInputConnection(cast.GetOutputPort())
    islands.SetFullyConnected(True)
    islands.Update()
    output = islands.GetOutput()
    return vtk_to_numpy(output.GetPointData().GetScalars()).reshape(output.GetDimensions()[::-1]).astype(int)


def _surfacePoints(mask, extent, axes=(0, 1, 2)):
    """Points (I, J, K) half-way between voxels inside and their neighbours outside, along these axes."""
    import numpy

    padded = numpy.pad(mask.transpose(2, 1, 0), 1)
    offset = numpy.array([extent[0], extent[2], extent[4]]) - 1
    points = []
    for axis in axes:
        for step in (-1, 1):
            border = padded & ~numpy.roll(padded, -step, axis=axis)
            shift = numpy.zeros(3)
            shift[axis] = step / 2
            points.append(numpy.argwhere(border) + offset + shift)
    return numpy.concatenate(points)


def _largestDistance(points):
    """Largest distance between two points: extreme points first, then their farthest partners until none is farther."""
    import numpy

    dimensions = points.shape[1]
    turns = numpy.arange(_DIRECTIONS) + 0.5
    if dimensions == 3:  # a spiral over the sphere
        height, angle = 1 - 2 * turns / _DIRECTIONS, math.pi * (1 + math.sqrt(5)) * turns
        flat = numpy.sqrt(1 - height**2)
        directions = numpy.stack([flat * numpy.cos(angle), flat * numpy.sin(angle), height])
    else:
        angle = math.pi * turns / _DIRECTIONS
        directions = numpy.stack([numpy.cos(angle), numpy.sin(angle)])
    found = numpy.unique((points @ directions).argmax(axis=0))
    largest = 0.0
    while len(found):
        distances = numpy.stack([numpy.linalg.norm(points - points[one], axis=1) for one in found])
        if distances.max() <= largest + 1e-9:
            break
        largest = float(distances.max())
        found = numpy.unique(distances.argmax(axis=1))
    return largest


def _axialSize(mask, extent, affine):
    """Longest in-plane diameter over the planes nearest to axial, and the longest chord perpendicular to it, mm."""
    import numpy

    axes = affine[:3, :3] / numpy.linalg.norm(affine[:3, :3], axis=0)
    normal = _superiorAxis(axes)
    inPlane = [axis for axis in range(3) if axis != normal]
    points = _surfacePoints(mask, extent, inPlane)
    first = extent[2 * normal]
    best = ((0.0, 0), 0.0, None)
    for plane in numpy.unique(points[:, normal]):
        flat = _onPlane(points[points[:, normal] == plane], affine, inPlane)
        size = _largestDistance(flat)
        # Of planes with equal diameters the one with most voxels counts, as in the package.
        voxels = int(numpy.take(mask, int(plane) - first, axis=2 - normal).sum())  # the mask is K, J, I
        rank = (round(size, 4), voxels)
        if rank > best[0]:
            best = (rank, size, flat)
    return best[1], _perpendicularChord(_hull(best[2]))


def _superiorAxis(axes):
    """The axis for superior in the assignment of axes to R, A, S that fits best."""
    import itertools

    order = max(itertools.permutations(range(3)), key=lambda p: sum(abs(axes[world, p[world]]) for world in range(3)))
    return order[2]


def _onPlane(points, affine, inPlane):
    """Coordinates in mm on the plane that two voxel axes span; the axes need not be orthogonal."""
    import numpy

    first, second = affine[:3, inPlane[0]], affine[:3, inPlane[1]]
    across = first / numpy.linalg.norm(first)
    up = second - (second @ across) * across
    up = up / numpy.linalg.norm(up)
    steps = points[:, inPlane] @ numpy.stack([first, second])
    return numpy.stack([steps @ across, steps @ up], axis=1)


def _hull(points):
    """Convex outline of points (n, 2), counter-clockwise."""
    ordered = sorted({(round(float(x), 6), round(float(y), 6)) for x, y in points})
    halves = []
    for sequence in (ordered, ordered[::-1]):
        half = []
        for x, y in sequence:
            while len(half) > 1:
                (x0, y0), (x1, y1) = half[-2:]
                if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                    break
                half.pop()
            half.append((x, y))
        halves += half[:-1]
    return halves


def _perpendicularChord(hull):
    """Longest chord of a convex outline perpendicular to its longest diameter."""
    import numpy

    outline = numpy.array(hull)
    distances = numpy.linalg.norm(outline[:, None] - outline[None], axis=2)
    one, two = numpy.unravel_index(distances.argmax(), distances.shape)
    along = (outline[two] - outline[one]) / distances[one, two]
    turned = numpy.stack([outline @ along, outline @ [-along[1], along[0]]], axis=1)
    # The chord's length is linear between corners, so the longest lies at a corner.
    return max(_chord(turned, position) for position in turned[:, 0])


def _chord(outline, position):
    heights = []
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]]):
        if abs(x1 - x0) < 1e-9:
            heights += [y0, y1] if abs(x0 - position) < 1e-9 else []
        elif min(x0, x1) - 1e-9 <= position <= max(x0, x1) + 1e-9:
            heights.append(y0 + (y1 - y0) * (position - x0) / (x1 - x0))
    return float(max(heights) - min(heights)) if heights else 0.0


def _betweenFrames(points, source, target):
    """Points (n, 3) in the frame under one transform node as points in that under another; None is the world."""
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    if source is target:
        return points
    transform, given, moved = vtk.vtkGeneralTransform(), vtk.vtkPoints(), vtk.vtkPoints()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    given.SetData(numpy_to_vtk(points, deep=True))
    moved.SetDataTypeToDouble()
    transform.TransformPoints(given, moved)
    return vtk_to_numpy(moved.GetData())


def _meanIntensity(volume, centres):
    """Mean of the voxels of `volume` nearest to these points of its frame, or None if none lies inside."""
    import numpy

    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    toIndex = slicer.util.arrayFromVTKMatrix(matrix)
    index = numpy.rint(centres @ toIndex[:3, :3].T + toIndex[:3, 3]).astype(int)
    values = slicer.util.arrayFromVolume(volume)
    inside = ((index >= 0) & (index < values.shape[::-1])).all(axis=1)
    i, j, k = index[inside].T
    return float(values[k, j, i].astype(float).mean()) if inside.any() else None
