"""What a segmentation says of itself."""

from dataclasses import replace

import numpy as np
import pytest

from lightunet_monai.labels import LabelTable
from lightunet_monai.segmentation import Segmentation
from tests.builders.segmentation import MASS, SKIN, make_case


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Segmentation:
    return make_case(tmp_path_factory.mktemp("case"), "oblique").segmentation


@pytest.mark.parametrize("order", ["C", "F"])
def test_volumes_count_voxels_in_every_order_of_memory(made, order):
    labels = np.zeros((5, 7, 9), dtype=np.uint8, order=order)
    labels[1:3, 2:5, 4:8] = 1
    labels[4, 6, 8] = 2
    segmentation = replace(made, label_map=labels, labels=LabelTable((MASS, SKIN)), probability=None)
    assert segmentation.volume_ml(1) == pytest.approx(24 * made.voxel_volume_ml)
    assert segmentation.volume_ml(2) == pytest.approx(made.voxel_volume_ml)
    assert segmentation.volume_ml(3) == 0
    assert segmentation.has_lesion
    labels[labels == 1] = 0
    assert not replace(
        made, label_map=labels, labels=LabelTable((MASS, SKIN)), probability=None
    ).has_lesion  # 2 is skin
