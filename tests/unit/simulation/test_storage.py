from __future__ import annotations

from itertools import product

import nibabel
import numpy as np
import pytest
import torch

from lightunet_monai.simulation.grid import Grid
from lightunet_monai.simulation.storage import ORDERS, Storage, to_storage

GRID = Grid((4, 5, 6), (1.0, 2.0, 3.0), (-10.0, 20.0, 30.0))
VALUES = torch.arange(120, dtype=torch.int16).reshape(GRID.shape)


@pytest.mark.parametrize(("plane", "flips"), list(product(ORDERS, product([False, True], repeat=3))))
def test_every_plane_and_flip_stores_the_same_world(plane: str, flips: tuple[bool, bool, bool]) -> None:
    array, affine = to_storage(VALUES, GRID, Storage(plane, flips, 1))
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), VALUES.numpy())
    expected = np.diag([*GRID.spacing, 1.0])
    expected[:3, 3] = GRID.origin
    np.testing.assert_allclose(canonical.affine, expected)


def test_coronal_slices_are_stacked_from_front_to_back() -> None:
    array, affine = to_storage(VALUES, GRID, Storage("coronal", (False, False, False), 1))
    assert array.shape == (4, 6, 5)
    assert np.argmax(np.abs(affine[:3, 2])) == 1
