"""Measuring: quick with many pieces, and right under any transform."""

import time

import numpy as np
import pytest
import slicer
import vtk
from LightUNetSegmentationLib import measure
from LightUNetSegmentationLib.edits import segmentImage
from LightUNetSegmentationLib.measure import measureLesions
from LightUNetSegmentationLib.segment_run import SegmentRun


@pytest.fixture
def result(make_volume, make_interpreter):
    made = make_volume("oblique")
    made.segmentation = SegmentRun(made.node, interpreter=make_interpreter()).start().wait(60)
    return made


def piece_by_piece(image, volume):
    """What `measureLesions` gives, each piece measured in the whole array: slow, and plain to see."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine, extent = slicer.util.arrayFromVTKMatrix(matrix), image.GetExtent()
    components = measure.findPieces(image)
    for value in range(1, components.max() + 1):
        mask = components == value
        index = np.argwhere(mask)[:, ::-1] + [extent[0], extent[2], extent[4]]
        centres = index @ affine[:3, :3].T + affine[:3, 3]
        points = measure._surfacePoints(mask, extent) @ affine[:3, :3].T + affine[:3, 3]
        long, short = measure._axialSize(mask, extent, affine)
        yield {
            "label": "tumor",
            "voxels": len(index),
            "volume_ml": round(len(index) * abs(np.linalg.det(affine[:3, :3])) / 1000, 4),
            "feret_diameter_mm": round(measure._largestDistance(points), 4),
            "axial_long_axis_mm": round(long, 4),
            "axial_short_axis_mm": round(short, 4),
            "centroid_ras_mm": [round(float(v), 4) for v in centres.mean(axis=0)],
            "mean_hu": round(measure._meanIntensity(volume, centres), 4),
        }


def test_pieces_are_measured_as_in_the_whole_array(result):
    array = (np.random.default_rng(3).random(result.ball.T.shape) > 0.96).astype(np.uint8)
    array[3:7, 5:12, 8:11] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, result.segmentation, "tumor", result.node)
    lesions = measureLesions(result.segmentation, result.node)
    assert len(lesions) > 20
    for lesion in lesions:
        del lesion["number"]
    expected = list(piece_by_piece(segmentImage(result.segmentation, "tumor"), result.node))
    assert sorted(map(repr, lesions)) == sorted(map(repr, expected))


def test_many_pieces_in_a_large_box_take_no_scan_of_the_box_each(monkeypatch):
    """As many pieces in an eighth of the box take as long, but for the one scan."""
    seconds = {}
    for side in (80, 160):
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(side, side, side)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        array = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(side, side, side)
        array[:] = 0
        array[:: side // 5, :: side // 5, :: side // 5] = 1
        start = time.process_time()
        assert len(measure._measureImage(image, "tumor", None)) == 125
        seconds[side] = time.process_time() - start
    assert seconds[160] < 3 * seconds[80] + 0.5


def shift(scene, x):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, x)
    transform.SetMatrixTransformToParent(matrix)
    return transform


def test_the_mean_is_that_of_the_voxels_under_the_lesion_whatever_moves_the_volume(result, make_interpreter, scene):
    result.node.SetAndObserveTransformNodeID(shift(scene, 6.0).GetID())
    segmentation = SegmentRun(result.node, interpreter=make_interpreter()).start().wait(60)
    expected = measureLesions(segmentation, result.node)[0]["mean_hu"]
    assert expected == pytest.approx(result.array[result.ball].mean(), abs=1e-3)
    result.node.HardenTransform()
    assert measureLesions(segmentation, result.node)[0]["mean_hu"] == expected
    # and where a volume without a transform is seen through that of the segmentation
    result.node.SetAndObserveTransformNodeID(shift(scene, -500.0).GetID())
    assert measureLesions(segmentation, result.node)[0]["mean_hu"] is None
