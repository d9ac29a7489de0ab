"""Ranks follow the order of brightness, in millilitres, and no scale."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.transforms import RankBrightnessd

RANK = RankBrightnessd("image", tissue_hu=-400, range_ml=(0.1, 1000))


def _volume(hu, spacing=2.0):
    return MetaTensor(torch.as_tensor(hu, dtype=torch.float32)[None], affine=np.diag([spacing, spacing, spacing, 1.0]))


def _breast():
    """1000 ml of adipose tissue at 8 mm3 a voxel, in it 10 ml of gland and in that 1 ml of tumour; air around."""
    hu = np.full(200_000, -1000.0)
    hu[:125_000] = -120.0
    hu[:1250] = 30.0
    hu[:125] = 60.0
    return np.random.default_rng(0).permutation(hu).reshape(50, 50, 80)


def test_a_tissue_has_the_rank_of_the_volume_that_is_as_bright_or_brighter():
    hu = _breast()
    rank = RANK({"image": _volume(hu)})["image"].as_tensor()[0].numpy()
    assert rank.dtype == np.float32
    assert np.unique(rank[hu == -1000]) == [0.0]
    assert np.unique(rank[hu == -120]) == pytest.approx([0.02])  # the least of tissue: 1000 ml
    assert np.unique(rank[hu == 30]) == pytest.approx([np.log(1000 / 10) / np.log(1e4)])
    assert np.unique(rank[hu == 60]) == pytest.approx([np.log(1000 / 1) / np.log(1e4)])


@pytest.mark.parametrize("change", [lambda hu: hu + 60, lambda hu: 1.3 * hu, lambda hu: hu + (hu > 0) * hu**2 / 100])
def test_no_monotone_change_of_the_scale_changes_a_rank(change):
    hu = _breast()
    tissue = hu > -400
    changed = np.where(tissue, change(np.where(tissue, hu, 0.0)), hu)
    before = RANK({"image": _volume(hu)})["image"]
    after = RANK({"image": _volume(changed), "other": 3})
    torch.testing.assert_close(after["image"].as_tensor(), before.as_tensor(), rtol=0, atol=0.002)
    np.testing.assert_array_equal(after["image"].affine, before.affine)
    assert after["other"] == 3


def test_the_rank_counts_millilitres_and_not_voxels():
    fine = np.repeat(np.repeat(np.repeat(_breast(), 2, 0), 2, 1), 2, 2)
    coarse_rank = RANK({"image": _volume(_breast())})["image"].as_tensor()
    fine_rank = RANK({"image": _volume(fine, spacing=1.0)})["image"].as_tensor()[:, ::2, ::2, ::2]
    torch.testing.assert_close(fine_rank, coarse_rank, rtol=0, atol=1e-5)


def test_air_metal_and_values_that_are_not_numbers_stay_within_bounds():
    hu = _breast()
    hu[0, 0, :3] = [20000.0, -5000.0, np.nan]
    rank = RANK({"image": _volume(hu)})["image"].as_tensor()[0]
    assert torch.isfinite(rank).all()
    assert rank.min() == 0.0
    assert rank[0, 0, 0] == 1.0
    assert rank[0, 0, 1] == rank[0, 0, 2] == 0.0
    empty = RANK({"image": _volume(np.full((9, 9, 9), -1000.0))})["image"]
    assert not empty.as_tensor().any()


def test_what_is_left_out_has_a_rank_and_does_not_count():
    """200 ml of muscle between gland and tumour in brightness: left out, the ranks are those without it."""
    plain = _breast()
    muscle = np.zeros(plain.shape, dtype=bool)
    muscle.flat[np.flatnonzero(plain == -1000)[:25_000]] = True
    with_muscle = np.where(muscle, 45.0, plain)
    asked = []

    def find_left_out(case):
        asked.append(case["image"])
        return {"pred": MetaTensor(torch.from_numpy(muscle.astype(np.uint8))[None])}

    leave_out = RankBrightnessd("image", tissue_hu=-400, range_ml=(0.1, 1000), left_out=find_left_out)
    expected = RANK({"image": _volume(plain)})["image"].as_tensor()[0].numpy()
    rank = leave_out({"image": _volume(with_muscle)})["image"].as_tensor()[0].numpy()
    np.testing.assert_allclose(rank[~muscle], expected[~muscle], rtol=0, atol=1e-6)
    assert (rank[muscle] > rank[plain == 30].max()).all()
    assert (rank[muscle] <= rank[plain == 60].min()).all()
    assert len(asked) == 1
    torch.testing.assert_close(asked[0].as_tensor(), _volume(with_muscle).as_tensor())
    counted = RANK({"image": _volume(with_muscle)})["image"].as_tensor()[0].numpy()
    assert counted[plain == 30].max() < 0.7 * rank[plain == 30].min()


def test_a_volume_of_nothing_but_what_is_left_out_stays_within_bounds():
    everything = RankBrightnessd(
        "image", tissue_hu=-400, range_ml=(0.1, 1000), left_out=lambda case: {"pred": _all_of(case["image"])}
    )
    rank = everything({"image": _volume(_breast())})["image"].as_tensor()
    assert torch.isfinite(rank).all()
    assert rank.min() == 0.0
    assert rank.max() == 1.0


def test_hounsfield_units_go_along_as_a_second_channel_clipped_and_scaled():
    hu = _breast()
    hu[0, 0, :3] = [20000.0, -5000.0, np.nan]
    both = RankBrightnessd("image", tissue_hu=-400, range_ml=(0.1, 1000), hu_range=(-400, 1200), hu_unit=400)
    channels = both({"image": _volume(hu)})["image"].as_tensor().numpy()
    assert channels.dtype == np.float32
    np.testing.assert_array_equal(channels[:1], RANK({"image": _volume(hu)})["image"].as_tensor().numpy())
    assert channels[1, 0, 0, :3].tolist() == [4.0, 0.0, 0.0]
    assert np.unique(channels[1][hu == -120]) == pytest.approx([0.7])
    assert np.unique(channels[1][hu == 60]) == pytest.approx([1.15])
    assert not channels[1][hu == -1000].any()


def test_skin_has_a_rank_and_does_not_count():
    """A ball of adipose tissue with 1 ml of tumour, in a shell that is brighter than it: left out, the tumour leads."""
    axes = np.indices((40, 40, 40)) - 19.5
    radius = np.sqrt((axes**2).sum(0)) * 2.0
    hu = np.where(radius < 32, -120.0, -1000.0)
    hu[radius < 6.2] = 40.0
    shell = (radius < 32) & (radius > 30)
    hu[shell] = 60.0
    counted = RANK({"image": _volume(hu)})["image"].as_tensor()[0].numpy()
    skin_out = RankBrightnessd("image", tissue_hu=-400, range_ml=(0.1, 1000), skin_mm=4.0)
    rank = skin_out({"image": _volume(hu)})["image"].as_tensor()[0].numpy()
    tumour_ml = np.count_nonzero(hu == 40) * 8 / 1000
    assert np.unique(rank[hu == 40]) == pytest.approx([np.log(1000 / tumour_ml) / np.log(1e4)], abs=1e-5)
    assert counted[hu == 40].max() < 0.6 * rank[hu == 40].min()
    assert (rank[shell] > rank[hu == 40].max()).all()
    assert not rank[hu == -1000].any()
    thin = np.where(radius < 4, 40.0, -1000.0)
    thin[19:21, 19:21, 19:21] = 60.0
    everything = RANK({"image": _volume(thin)})["image"].as_tensor()
    torch.testing.assert_close(skin_out({"image": _volume(thin)})["image"].as_tensor(), everything)


def _all_of(volume):
    return MetaTensor(torch.ones(volume.shape, dtype=torch.uint8))
