"""The adipose peak is found and moved; where there is none, nothing moves and a warning says so."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.transforms import AnchorAdiposed

ANCHOR = AnchorAdiposed("image", reference_hu=-110, search_hu=(-300, 60), tissue_hu=(-600, 400), prominence=0.2)


def _breast(adipose, gland, gland_share, noise=25.0, shape=(40, 40, 40)):
    random = np.random.default_rng(3)
    hu = np.full(shape, -1000.0, dtype=np.float32)
    inside = hu[5:-5, 5:-5, 5:-5]
    inside[:] = np.where(random.random(inside.shape) < gland_share, gland, adipose)
    inside += random.normal(0.0, noise, inside.shape).astype(np.float32)
    return MetaTensor(torch.from_numpy(hu)[None], affine=torch.diag(torch.tensor([1.5, 1.5, 1.5, 1.0])))


@pytest.mark.parametrize("adipose", [-210.0, -110.0, -30.0])
@pytest.mark.parametrize("gland_share", [0.05, 0.3, 0.7])
def test_adipose_tissue_lands_on_the_reference_on_any_scale_and_density(adipose, gland_share):
    volume = _breast(adipose, adipose + 150.0, gland_share)
    anchored = ANCHOR({"image": volume})["image"]
    shift = -110.0 - anchored.meta["adipose_hu"]
    assert abs(anchored.meta["adipose_hu"] - adipose) < 8.0
    torch.testing.assert_close(anchored.as_tensor(), volume.as_tensor() + shift)
    np.testing.assert_array_equal(anchored.affine, volume.affine)
    assert anchored.meta.get("warnings", []) == []


@pytest.mark.parametrize(
    "volume",
    [
        MetaTensor(torch.full((1, 30, 30, 30), -1000.0)),
        MetaTensor(torch.full((1, 4, 4, 4), -110.0)),
        _breast(200.0, 220.0, 0.5, noise=5.0),
    ],
    ids=["air", "too few voxels", "nothing below 60 HU"],
)
def test_without_an_adipose_peak_nothing_moves_and_a_warning_says_so(volume):
    before = volume.as_tensor().clone()
    volume.meta["warnings"] = ["an earlier one"]
    anchored = ANCHOR({"image": volume, "other": 1})
    assert torch.equal(anchored["image"].as_tensor(), before)
    assert anchored["image"].meta["warnings"][0] == "an earlier one"
    assert "no peak of adipose tissue between -300 and 60 HU" in anchored["image"].meta["warnings"][1]
    assert volume.meta["warnings"] == ["an earlier one"]
    assert anchored["other"] == 1
