"""Segments as one label map."""

import numpy as np
import pytest
import slicer
from LightUNetSegmentationLib.label_maps import labelValues, writeLabelMap
from LightUNetSegmentationLib.parameters import RunParameters
from LightUNetSegmentationLib.segment_run import SegmentRun

LABELS = [{"value": 1, "name": "tumor"}, {"value": 2, "name": "adipose"}]


@pytest.mark.parametrize("labels", [LABELS, LABELS[::-1]], ids=["tumor first", "tumor last"])
def test_where_segments_overlap_the_voxel_belongs_to_the_lesion(make_volume, make_interpreter, tmp_path, labels):
    made, tissues = make_volume(), RunParameters(model="tissues")
    segmentation = SegmentRun(made.node, tissues, interpreter=make_interpreter()).start().wait(60)
    lesion = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", made.node)
    lesion[6, 0:4, 0:4] = 1  # as a brush does that lets segments overlap
    slicer.util.updateSegmentBinaryLabelmapFromArray(lesion, segmentation, "tumor", made.node)
    adipose = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "adipose", made.node)
    assert (lesion & adipose).sum() == 16
    writeLabelMap(made.node, segmentation, labelValues(segmentation, labels), str(tmp_path / "labels.nrrd"))
    node = slicer.vtkMRMLLabelMapVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / "labels.nrrd"))
    assert storage.ReadData(node)
    written = slicer.util.arrayFromVolume(node)
    assert np.array_equal(written == 1, lesion > 0)
    assert (written == 2).sum() == adipose.sum() - 16
