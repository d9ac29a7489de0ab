"""Areas of 2-D images."""

from dataclasses import replace

import numpy as np
import pytest

from lightunet_monai.outputs.areas import measure_areas
from tests.builders.segmentation import make_segmentation


def test_pieces_come_largest_first_each_in_its_own_box() -> None:
    label_map = np.zeros((40, 30, 1), np.uint8)
    label_map[2:5, 10:14] = 1
    label_map[5, 14] = 1  # touches by a corner
    label_map[20:38, 3:9] = 1
    label_map[21:37, 4:8] = 0  # a ring around another piece
    label_map[30, 5:7] = 1
    segmentation = replace(make_segmentation(label_map, np.diag([0.5, 0.2, 1, 1])), is_picture=True)

    areas = measure_areas(segmentation)

    assert (areas["unit"], areas["labels"]) == ("mm2", {"tumor": pytest.approx(0.1 * (13 + 44 + 2))})
    assert [piece["pixels"] for piece in areas["pieces"]] == [44, 13, 2]
    assert [piece["box_pixels"] for piece in areas["pieces"]] == [[20, 37, 3, 8], [2, 5, 10, 14], [30, 30, 5, 6]]
    assert areas["pieces"][2]["centroid_pixel"] == [30.0, 5.5]


def test_the_many_pieces_of_a_large_image_are_all_measured() -> None:
    label_map = np.zeros((3000, 3000, 1), np.uint8)
    label_map[::50, ::50] = 1
    areas = measure_areas(replace(make_segmentation(label_map), is_picture=True, has_spacing=False))
    assert (areas["unit"], len(areas["pieces"])) == ("pixels", 3600)
