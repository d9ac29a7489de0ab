"""A volume goes out and comes back as a segmentation, on real MRML, in every orientation."""

import numpy as np
import pytest
import slicer
import vtk
from LightUNetSegmentationLib.edits import ownSegmentIds, segmentTag
from LightUNetSegmentationLib.segment_run import SegmentRun

from conftest import ORIENTATIONS, world_points


def segment(volume, interpreter, **options):
    return SegmentRun(volume, interpreter=interpreter, **options).start().wait(60)


def mask_of(segmentation, volume):
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", volume) > 0


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_result_lies_on_the_same_voxels_in_the_world(make_volume, make_interpreter, orientation):
    made = make_volume(orientation)
    segmentation = segment(made.node, make_interpreter())
    expected = world_points(made.ball.transpose(2, 1, 0), made.node)
    assert np.array_equal(world_points(mask_of(segmentation, made.node), made.node), expected)
    # and independently of the grid of the volume: the segment's own image
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation("tumor", image)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    extent = image.GetExtent()
    values = _array(image)
    index = np.argwhere(values)[:, ::-1] + [extent[0], extent[2], extent[4]]
    points = np.round(index @ affine[:3, :3].T + affine[:3, 3], 3) + 0.0
    own = points[np.lexsort(points.T)]
    assert own.shape == expected.shape
    assert np.abs(own.mean(axis=0) - expected.mean(axis=0)).max() < 1e-3
    assert np.abs(own - expected).max() < 0.01


def _array(image):
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def test_a_volume_under_a_transform_keeps_its_result_under_the_same_transform(make_volume, make_interpreter, scene):
    made = make_volume("oblique")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    transform.SetMatrixTransformToParent(matrix)
    made.node.SetAndObserveTransformNodeID(transform.GetID())
    segmentation = segment(made.node, make_interpreter())
    assert segmentation.GetTransformNodeID() == transform.GetID()
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    assert bounds[0] < made.centre[0] + 100 < bounds[1]


def test_names_colours_codes_and_tags_come_with_the_file(make_volume, make_interpreter):
    segmentation = segment(make_volume().node, make_interpreter())
    assert ownSegmentIds(segmentation) == ["tumor"]
    piece = segmentation.GetSegmentation().GetSegment("tumor")
    assert piece.GetName() == "Breast mass"
    assert np.allclose(piece.GetColor(), np.array([230, 60, 60]) / 255, atol=1e-3)
    assert "SCT^4147007^Mass" in segmentTag(piece, piece.GetTerminologyEntryTagName())
    assert "SCT^76752008^Breast" in segmentTag(piece, piece.GetTerminologyEntryTagName())
    assert segmentTag(piece, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    assert segmentTag(piece, "DICOM.SegmentAlgorithmName") == "fake model"
    assert segmentTag(piece, "LightUNet.WeightsSHA256") == "ab" * 32


def test_provenance_is_in_the_attributes_of_the_node(make_volume, make_interpreter):
    segmentation = segment(make_volume().node, make_interpreter())
    assert segmentation.GetAttribute("LightUNet.ModelVersion") == "9.9"
    assert segmentation.GetAttribute("LightUNet.Threshold") == "0.5"
    assert segmentation.GetAttribute("LightUNet.Engine") == "fake"


def test_the_volume_is_the_reference_geometry(make_volume, make_interpreter):
    made = make_volume()
    segmentation = segment(made.node, make_interpreter())
    role = segmentation.GetReferenceImageGeometryReferenceRole()
    assert segmentation.GetNodeReference(role) is made.node


def test_the_result_is_shown_in_slices_and_as_a_surface(make_volume, make_interpreter):
    segmentation = segment(make_volume().node, make_interpreter())
    assert segmentation.GetDisplayNode().GetVisibility3D()
    mesh = vtk.vtkPolyData()
    assert segmentation.GetClosedSurfaceRepresentation("tumor", mesh)
    assert mesh.GetNumberOfCells() > 50


def test_the_result_is_in_the_study_of_its_volume(make_volume, make_interpreter, scene):
    made = make_volume()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    hierarchy.CreateItem(study, made.node)
    segmentation = segment(made.node, make_interpreter())
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(segmentation)) == study


def test_an_item_that_slicer_made_itself_is_moved_to_the_study(make_volume, scene):
    from LightUNetSegmentationLib.subjects import placeNextTo

    made = make_volume()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, made.node)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), segmentation)
    placeNextTo(segmentation, made.node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(segmentation)) == study


def test_a_region_gives_the_part_of_the_result_inside_of_it(make_volume, make_interpreter, scene):
    made = make_volume("oblique")
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(made.centre)
    roi.SetSize(6, 6, 6)
    segmentation = segment(made.node, make_interpreter(), roi=roi)
    mask = mask_of(segmentation, made.node).transpose(2, 1, 0)
    assert not (mask & ~made.ball).any()
    # all of the ball inside of the region, and not more than the box of whole voxels around the oblique region
    index = np.stack(np.meshgrid(*[np.arange(n) for n in made.ball.shape], indexing="ij"), axis=-1)
    offset = index @ made.matrix[:3, :3].T + made.matrix[:3, 3] - made.centre
    inside = (np.abs(offset) <= 3).all(axis=-1)
    assert mask[inside & made.ball].all()
    assert np.linalg.norm(offset[mask], axis=1).max() < 3 * np.sqrt(3) * 1.7
    assert 0 < mask.sum() < made.ball.sum()


def test_a_whole_region_changes_nothing(make_volume, make_interpreter, scene):
    made = make_volume("left-handed")
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(made.centre)
    roi.SetSize(500, 500, 500)
    segmentation = segment(made.node, make_interpreter(), roi=roi)
    assert np.array_equal(mask_of(segmentation, made.node).transpose(2, 1, 0), made.ball)


def test_the_scene_goes_through_an_mrb_file(make_volume, make_interpreter, scene, tmp_path):
    made = make_volume("oblique", name="CT one")
    segmentation = segment(made.node, make_interpreter())
    before = world_points(mask_of(segmentation, made.node), made.node)
    for node in (made.node, segmentation, segmentation.GetNodeReference("lightunet.probability")):
        node.AddDefaultStorageNode()
    folder = tmp_path / "bundle"
    folder.mkdir()
    scene.SetRootDirectory(str(folder))
    path = tmp_path / "scene.mrb"
    assert scene.WriteToMRB(str(path))
    scene.Clear(1)
    assert scene.ReadFromMRB(str(path), True)
    volume = scene.GetFirstNodeByName("CT one")
    again = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert np.array_equal(world_points(mask_of(again, volume), volume), before)
    assert again.GetAttribute("LightUNet.ModelVersion") == "9.9"
    assert ownSegmentIds(again) == ["tumor"]

    from LightUNetSegmentationLib.edits import isEdited
    from LightUNetSegmentationLib.results import recordedLesions
    from LightUNetSegmentationLib.threshold import canReapply

    assert not isEdited(again)
    assert recordedLesions(again)[0]["volume_ml"] > 0
    assert canReapply(again)


def test_no_temporary_file_is_left(make_volume, make_interpreter, temporary):
    segment(make_volume().node, make_interpreter())
    assert temporary() == []


def test_a_new_run_adds_a_new_segmentation(make_volume, make_interpreter):
    made = make_volume()
    first, second = (segment(made.node, make_interpreter()) for _ in range(2))
    assert first is not second
    assert first.GetName() != second.GetName()


def test_the_colour_table_gives_names_colours_and_codes(scene):
    from conftest import MODULE

    table = scene.AddNewNodeByClass("vtkMRMLColorTableNode")
    table.SetTypeToUser()
    storage = slicer.vtkMRMLColorTableStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(str(MODULE / "Resources" / "Colors" / "LightUNetSegmentation.csv"))
    assert storage.ReadData(table)
    assert table.GetColorName(1) == "Breast mass"
    assert "SCT^4147007^Mass" in table.GetTerminologyAsString(1)
