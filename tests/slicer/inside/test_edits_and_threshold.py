"""Edits are never lost, a replacement can be undone, a threshold needs no second run."""

import numpy as np
import pytest
import slicer
import vtk
from LightUNetSegmentationLib.dicom_export import markEdited
from LightUNetSegmentationLib.edits import (
    EditHistory,
    isEdited,
    ownSegmentIds,
    referenceVolume,
    rememberAsMade,
    segmentTag,
)
from LightUNetSegmentationLib.errors import EditedSegmentationError, ModuleError
from LightUNetSegmentationLib.measure import measureLesions
from LightUNetSegmentationLib.parameters import RunParameters
from LightUNetSegmentationLib.results import recordedDensity
from LightUNetSegmentationLib.segment_run import SegmentRun
from LightUNetSegmentationLib.threshold import canReapply, reapplyThreshold, recordedThreshold


def segment(volume, interpreter, **options):
    return SegmentRun(volume, interpreter=interpreter, **options).start().wait(60)


def mask_of(segmentation, volume, name="tumor"):
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, volume) > 0


def erase_half(segmentation, volume):
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", volume)
    array[: array.shape[0] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, "tumor", volume)


@pytest.fixture
def result(make_volume, make_interpreter):
    made = make_volume()
    made.segmentation = segment(made.node, make_interpreter())
    return made


def test_a_fresh_result_is_not_edited_and_a_cut_one_is(result):
    assert not isEdited(result.segmentation)
    erase_half(result.segmentation, result.node)
    assert isEdited(result.segmentation)


def test_another_name_or_colour_is_no_edit(result):
    result.segmentation.GetSegmentation().GetSegment("tumor").SetName("Mass")
    assert not isEdited(result.segmentation)


def test_edits_are_not_replaced_without_being_told(result, make_interpreter):
    erase_half(result.segmentation, result.node)
    kept = mask_of(result.segmentation, result.node)
    with pytest.raises(EditedSegmentationError, match="edits"):
        SegmentRun(result.node, interpreter=make_interpreter(), target=result.segmentation).start()
    assert np.array_equal(mask_of(result.segmentation, result.node), kept)


def test_a_replacement_can_be_undone(result, make_interpreter):
    erase_half(result.segmentation, result.node)
    kept, history = mask_of(result.segmentation, result.node), EditHistory()
    segment(result.node, make_interpreter(), target=result.segmentation, whenEdited="replace", history=history)
    assert mask_of(result.segmentation, result.node).sum() == result.ball.sum()
    assert history.restore(result.segmentation)
    assert np.array_equal(mask_of(result.segmentation, result.node), kept)
    assert isEdited(result.segmentation)
    assert not history.canRestore(result.segmentation)


def test_an_edit_while_the_model_runs_keeps_both(result, make_interpreter):
    run = SegmentRun(result.node, interpreter=make_interpreter(), target=result.segmentation).start()
    erase_half(result.segmentation, result.node)
    kept = mask_of(result.segmentation, result.node)
    assert run.wait(60) is not result.segmentation
    assert np.array_equal(mask_of(result.segmentation, result.node), kept)
    assert "holds edits that would be lost. The result is a new segmentation" in run.warnings[-1]


def test_segments_of_the_user_stay_when_a_result_is_replaced(result, make_interpreter):
    result.segmentation.GetSegmentation().AddEmptySegment("mine", "Nipple")
    segment(result.node, make_interpreter(), target=result.segmentation)
    assert result.segmentation.GetSegmentation().GetSegment("mine").GetName() == "Nipple"
    assert ownSegmentIds(result.segmentation) == ["tumor"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def under_transform(scene, node, x):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, x)
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())


def centre_x(segmentation):
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    return (bounds[0] + bounds[1]) / 2


def test_a_replaced_result_goes_with_its_volume_under_another_transform(result, make_interpreter, scene):
    before, history = centre_x(result.segmentation), EditHistory()
    under_transform(scene, result.node, 100.0)
    segment(result.node, make_interpreter(), target=result.segmentation, history=history)
    assert result.segmentation.GetTransformNodeID() == result.node.GetTransformNodeID()
    assert centre_x(result.segmentation) == pytest.approx(before + 100)
    assert history.restore(result.segmentation)
    assert result.segmentation.GetTransformNodeID() is None


def test_segments_of_the_user_do_not_move_with_another_transform(result, make_interpreter, scene):
    result.segmentation.GetSegmentation().AddEmptySegment("mine", "Nipple")
    under_transform(scene, result.node, 100.0)
    with pytest.raises(EditedSegmentationError, match="another transform"):
        SegmentRun(result.node, interpreter=make_interpreter(), target=result.segmentation).start()


def test_the_result_of_another_volume_is_not_replaced_without_being_told(result, make_volume, make_interpreter):
    other, history = make_volume(name="other", origin=(212.0, -30.0, 50.0), hu=90), EditHistory()
    with pytest.raises(EditedSegmentationError, match="belongs to CT, not to other"):
        SegmentRun(other.node, interpreter=make_interpreter(), target=result.segmentation).start()
    segment(other.node, make_interpreter(), target=result.segmentation, whenEdited="replace", history=history)
    assert referenceVolume(result.segmentation) is other.node
    assert measureLesions(result.segmentation, other.node)[0]["mean_hu"] == pytest.approx(90, abs=2)
    assert history.restore(result.segmentation)
    assert referenceVolume(result.segmentation) is result.node


def test_an_empty_segmentation_as_target_gets_volume_and_transform(make_volume, make_interpreter, scene):
    made, target = make_volume(), scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    before = centre_x(segment(made.node, make_interpreter()))
    under_transform(scene, made.node, 100.0)
    assert segment(made.node, make_interpreter(), target=target) is target
    assert referenceVolume(target) is made.node
    assert centre_x(target) == pytest.approx(before + 100)


def test_what_the_undone_run_left_does_not_stay(result, make_volume, make_interpreter):
    history, other = EditHistory(), make_volume(name="other", origin=(212.0, -30.0, 50.0))
    tissues = RunParameters(model="tissues")
    segment(
        other.node,
        make_interpreter(),
        target=result.segmentation,
        whenEdited="replace",
        history=history,
        parameters=tissues,
    )
    assert recordedDensity(result.segmentation) is not None
    assert history.restore(result.segmentation)
    assert recordedDensity(result.segmentation) is None
    assert not canReapply(result.segmentation)  # the map is that of the other run


def test_an_undone_threshold_keeps_the_probability_map(result):
    history = EditHistory()
    reapplyThreshold(result.segmentation, 0.86, history=history)
    assert history.restore(result.segmentation)
    assert canReapply(result.segmentation)


def test_a_segmentation_of_somebody_else_is_not_replaced(result, make_interpreter, scene):
    foreign = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "By hand")
    foreign.GetSegmentation().AddEmptySegment("tumor", "Mine")
    with pytest.raises(EditedSegmentationError):
        SegmentRun(result.node, interpreter=make_interpreter(), target=foreign).start()
    segment(result.node, make_interpreter(), target=foreign, whenEdited="replace")
    names = [foreign.GetSegmentation().GetNthSegment(n).GetName() for n in range(2)]
    assert sorted(names) == ["Breast mass", "Mine"]


@pytest.mark.parametrize("threshold", [0.03, 0.3, 0.86])
def test_a_threshold_gives_what_a_second_run_gives(make_volume, make_interpreter, threshold):
    made = make_volume("left-handed")
    segmentation = segment(made.node, make_interpreter())
    reapplyThreshold(segmentation, threshold, made.node)
    again = segment(made.node, make_interpreter(), parameters=RunParameters(threshold=threshold))
    assert mask_of(again, made.node).sum() > 0
    assert np.array_equal(mask_of(segmentation, made.node), mask_of(again, made.node))
    assert recordedThreshold(segmentation) == threshold
    assert not isEdited(segmentation)


def test_a_threshold_keeps_name_colour_and_codes(result):
    piece = result.segmentation.GetSegmentation().GetSegment("tumor")
    reapplyThreshold(result.segmentation, 0.9, result.node)
    after = result.segmentation.GetSegmentation().GetSegment("tumor")
    assert (after.GetName(), after.GetColor()) == (piece.GetName(), piece.GetColor())
    assert ownSegmentIds(result.segmentation) == ["tumor"]


def test_a_threshold_does_not_overwrite_edits(result):
    erase_half(result.segmentation, result.node)
    with pytest.raises(EditedSegmentationError):
        reapplyThreshold(result.segmentation, 0.3, result.node)


def test_without_a_probability_map_there_is_no_threshold(result):
    slicer.mrmlScene.RemoveNode(result.segmentation.GetNodeReference("lightunet.probability"))
    assert not canReapply(result.segmentation)
    with pytest.raises(ModuleError, match="no probability map"):
        reapplyThreshold(result.segmentation, 0.3)


def test_a_high_threshold_empties_the_segment_and_a_low_one_fills_it_again(result):
    assert reapplyThreshold(result.segmentation, 0.98, result.node) == []
    assert reapplyThreshold(result.segmentation, 0.5, result.node)[0]["voxels"] == result.ball.sum()


def test_lesions_are_measured_as_numpy_measures_them(result):
    (lesion,) = measureLesions(result.segmentation, result.node)
    voxel_ml = abs(np.linalg.det(result.matrix[:3, :3])) / 1000
    assert lesion["voxels"] == result.ball.sum()
    assert lesion["volume_ml"] == pytest.approx(result.ball.sum() * voxel_ml, abs=1e-4)
    assert lesion["mean_hu"] == pytest.approx(result.array[result.ball].mean(), abs=1e-3)
    centre = np.argwhere(result.ball).mean(axis=0) @ result.matrix[:3, :3].T + result.matrix[:3, 3]
    assert np.allclose(lesion["centroid_ras_mm"], centre, atol=1e-3)


def test_volume_and_mean_agree_with_slicers_own_statistics_filter(result):
    """vtkImageAccumulate is what the module SegmentStatistics uses."""
    import vtk

    image = slicer.vtkOrientedImageData()
    result.segmentation.GetBinaryLabelmapRepresentation("tumor", image)
    stencil = vtk.vtkImageToImageStencil()
    plain = vtk.vtkImageData()
    plain.DeepCopy(image)
    plain.SetOrigin(0, 0, 0)
    plain.SetSpacing(1, 1, 1)
    values = vtk.vtkImageData()
    values.DeepCopy(result.node.GetImageData())
    stencil.SetInputData(plain)
    stencil.ThresholdByUpper(1)
    stencil.Update()
    accumulate = vtk.vtkImageAccumulate()
    accumulate.SetInputData(values)
    accumulate.SetStencilData(stencil.GetOutput())
    accumulate.Update()
    (lesion,) = measureLesions(result.segmentation, result.node)
    assert lesion["voxels"] == accumulate.GetVoxelCount()
    assert lesion["mean_hu"] == pytest.approx(accumulate.GetMean()[0], abs=1e-3)


def test_lesions_that_touch_by_a_corner_are_one_and_others_are_numbered_by_size(result):
    array = np.zeros(result.ball.T.shape, np.uint8)
    array[2:4, 2:4, 2:4] = 1
    array[4:6, 4:6, 4:6] = 1  # shares a corner with the first block
    array[10, 20:22, 20] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, result.segmentation, "tumor", result.node)
    lesions = measureLesions(result.segmentation, result.node)
    assert [(lesion["number"], lesion["voxels"]) for lesion in lesions] == [(1, 16), (2, 2)]


# Results that went through a file or into another segmentation


def copied(segmentation, scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "copy")
    node.GetSegmentation().CopySegmentFromSegmentation(segmentation.GetSegmentation(), "tumor")
    return node


@pytest.fixture(params=["file", "copy"])
def travelled(request, result, through_file, scene):
    """Takes a result elsewhere, without the attributes of its node."""

    def travel():
        node = through_file(result.segmentation) if request.param == "file" else copied(result.segmentation, scene)
        node.SetReferenceImageGeometryParameterFromVolumeNode(result.node)
        return node

    return travel


def kind_of(segmentation):
    return segmentTag(segmentation.GetSegmentation().GetSegment("tumor"), "DICOM.SegmentAlgorithmType")


def test_an_untouched_result_is_still_unedited_elsewhere(travelled):
    node = travelled()
    assert not isEdited(node)
    assert markEdited(node) == "AUTOMATIC"


def test_a_result_of_a_region_is_unedited_when_a_file_counts_its_voxels_from_another_corner(
    make_volume, make_interpreter, through_file, scene
):
    # In this place the corner lies half-way between two hundredths of a millimetre, or 1e-14 less.
    made = make_volume(np.diag([-0.15, -0.15, 0.15]), origin=(129.305, 44.555, -372.895))
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(*made.centre)
    roi.SetSize(2.1, 2.1, 1.5)
    segmentation = segment(made.node, make_interpreter(), roi=roi)
    assert not isEdited(segmentation)
    name = segmentation.GetSegmentation().AddEmptySegment("mine", "mine")
    drawn = np.zeros(made.array.T.shape, np.uint8)
    drawn[1:4, 1:4, 1:4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, segmentation, name, made.node)
    assert not isEdited(through_file(segmentation))


def test_edits_before_or_after_the_way_are_seen_elsewhere(travelled, result, make_interpreter):
    after = travelled()
    erase_half(after, result.node)
    assert isEdited(after)
    erase_half(result.segmentation, result.node)
    before = travelled()
    kept = mask_of(before, result.node)
    assert isEdited(before)
    assert markEdited(before) == "SEMIAUTOMATIC"
    with pytest.raises(EditedSegmentationError, match="edits"):
        SegmentRun(result.node, interpreter=make_interpreter(), target=before).start()
    assert np.array_equal(mask_of(before, result.node), kept)


def test_a_segment_that_does_not_say_what_the_model_gave_counts_as_edited(result, scene):
    node = copied(result.segmentation, scene)
    node.GetSegmentation().GetSegment("tumor").RemoveTag("LightUNet.Fingerprint")
    assert isEdited(node)


def test_what_a_person_drew_stays_marked(result, scene):
    erase_half(result.segmentation, result.node)
    assert markEdited(result.segmentation) == "SEMIAUTOMATIC"
    rememberAsMade(result.segmentation)  # as if nothing had been edited
    assert markEdited(result.segmentation) == "SEMIAUTOMATIC"
    assert kind_of(result.segmentation) == "SEMIAUTOMATIC"
    reapplyThreshold(result.segmentation, 0.3, result.node)  # the model draws all of it again
    assert markEdited(result.segmentation) == "AUTOMATIC"
