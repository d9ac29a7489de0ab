"""To the model's grid and back: right place, right values, any orientation."""

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.errors import GeometryError
from lightunet_monai.transforms import RestoreLabelMapd, RestoreProbabilityd, ToModelGridd
from lightunet_monai.transforms.model_grid import model_grid
from lightunet_monai.transforms.resampling import AxisMap, axis_maps, axis_weights, resample
from tests.builders.volume import make_affine

ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def _world(affine, index):
    return (affine @ np.append(np.asarray(index, dtype=float), 1))[:3]


def _ball(affine, shape, centre, radius):
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    return (np.linalg.norm(world - centre, axis=-1) < radius).astype(np.float32)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_a_ball_comes_back_to_its_place_in_every_orientation(axes, signs):
    affine = make_affine((0.7, 0.9, 1.4), axes=axes, signs=signs, turn_degrees=17)
    shape = (36, 30, 20)
    centre = _world(affine, (20, 11, 8))
    ball = _ball(affine, shape, centre, 6.0)
    volume = MetaTensor(torch.from_numpy(ball)[None], affine=torch.as_tensor(affine))
    case = ToModelGridd("image", spacing=(1, 1, 1))({"image": volume})
    image = case["image"]
    assert image.shape[0] == 1
    directions = np.asarray(image.affine)[:3, :3]
    assert (np.diag(directions) > 0.9).all()  # closest to right, anterior, superior
    case["pred"] = torch.stack([0.5 - image.as_tensor()[0], image.as_tensor()[0] - 0.5]) * 10
    restored = RestoreLabelMapd("pred")(case)["pred"]
    assert restored.dtype == torch.uint8
    assert restored.shape == volume.shape
    np.testing.assert_allclose(restored.affine, affine)
    both = 2 * float((restored.as_tensor().numpy()[0] * ball).sum()) / float(restored.sum() + ball.sum())
    assert both > 0.93


def test_values_of_a_ramp_move_by_less_than_a_fiftieth_of_a_millimetre():
    affine = make_affine((0.8, 0.6, 1.1), axes=(2, 0, 1), signs=(1, -1, 1))
    shape = (30, 40, 25)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    ramp = (world @ np.array([0.3, -0.2, 0.5])).astype(np.float32)
    image = ToModelGridd("image", (1.0, 1.0, 1.0))({"image": MetaTensor(ramp[None], affine=torch.as_tensor(affine))})[
        "image"
    ]
    grid = np.asarray(image.affine)
    inner = tuple(n // 2 for n in image.shape[1:])
    expected = _world(grid, inner) @ np.array([0.3, -0.2, 0.5])
    assert float(image[(0, *inner)]) == pytest.approx(expected, abs=0.01)  # the ramp rises by 0.6 a millimetre


def test_the_model_grid_has_the_centre_and_extent_of_the_source():
    affine = make_affine((0.3, 0.3, 2.0), signs=(-1, -1, 1))
    grid, shape = model_grid(affine, (512, 400, 50), (1.0, 1.0, 1.0))
    assert shape == (154, 120, 100)
    np.testing.assert_allclose(
        _world(grid, (np.array(shape) - 1) / 2), _world(affine, (np.array([512, 400, 50]) - 1) / 2), atol=1e-9
    )


def test_weights_sum_to_one_and_average_noise_when_the_target_is_coarser():
    fine = axis_weights(AxisMap(0, 0.5, 3.0), 300, 99, antialias=True)
    torch.testing.assert_close(fine.sum(1), torch.ones(99))
    assert fine.square().sum(1)[50] < 0.3  # variance of white noise after averaging
    plain = axis_weights(AxisMap(0, 0.5, 3.0), 300, 99, antialias=False)
    assert (plain > 0).sum(1).max() <= 2


def test_beyond_the_outer_centres_the_edge_value_continues():
    weights = axis_weights(AxisMap(0, -2.0, 0.5), 4, 20, antialias=False)
    assert weights[0].tolist() == [1, 0, 0, 0]
    assert weights[-1].tolist() == [0, 0, 0, 1]


def test_slabs_do_not_change_the_result():
    volume = torch.rand(20, 24, 37)
    maps = axis_maps(make_affine((0.5, 0.7, 0.4)), make_affine((1, 1, 1), signs=(1, -1, 1)))
    torch.testing.assert_close(resample(volume, maps, (9, 9, 9), slab=5), resample(volume, maps, (9, 9, 9), slab=64))


def test_a_sheared_volume_is_refused_with_its_angle():
    affine = make_affine((1, 1, 1))
    affine[1, 2] = np.tan(np.radians(15))
    with pytest.raises(GeometryError, match=r"1[45]\.\d\d degrees") as caught:
        ToModelGridd("image", (1, 1, 1))({"image": MetaTensor(torch.zeros(1, 8, 8, 8), affine=torch.as_tensor(affine))})
    assert "--regularize" in caught.value.hint


def test_a_label_map_on_the_model_grid_stays_zero_or_one():
    label = MetaTensor((torch.rand(1, 20, 20, 20) > 0.7).float(), affine=torch.as_tensor(make_affine((0.7, 0.7, 0.7))))
    found = ToModelGridd("label", (1, 1, 1), label_keys="label")({"label": label})["label"]
    assert set(found.unique().tolist()) == {0.0, 1.0}


def _case_with_logits(logits, source_shape=(10, 12, 14), spacing=(0.5, 0.5, 0.5)):
    volume = MetaTensor(torch.zeros(1, *source_shape), affine=torch.as_tensor(make_affine(spacing)))
    case = ToModelGridd("image", (1, 1, 1))({"image": volume})
    case["pred"] = logits(case["image"].shape[1:])
    return case


def test_more_than_two_channels_are_decided_by_the_largest_logit():
    def logits(shape):
        found = torch.zeros(3, *shape)
        found[1, :3] = 5
        found[2, 3:] = 5
        return found

    label_map = RestoreLabelMapd("pred")(_case_with_logits(logits))["pred"]
    assert set(label_map.unique().tolist()) == {1, 2}
    assert label_map[0, 0, 0, 0] == 1
    assert label_map[0, -1, 0, 0] == 2


def test_threshold_and_temperature_act_as_on_probabilities():
    torch.manual_seed(0)
    case = _case_with_logits(lambda shape: torch.randn(2, *shape) * 3)
    probability = RestoreProbabilityd("pred", temperature=2.0)(case)["pred"]
    for threshold in (0.2, 0.5, 0.9):
        label_map = RestoreLabelMapd("pred", threshold=threshold, temperature=2.0)(case)["pred"]
        agree = (label_map.as_tensor() > 0) == (probability.as_tensor() >= threshold)
        assert agree.float().mean() > 0.9999


def test_no_structure_anywhere_gives_an_empty_label_map():
    label_map = RestoreLabelMapd("pred")(_case_with_logits(lambda s: torch.stack([torch.ones(s), -torch.ones(s)])))[
        "pred"
    ]
    assert int(label_map.sum()) == 0
    assert label_map.shape == (1, 10, 12, 14)


@pytest.mark.parametrize("plane", range(16))
def test_a_piece_between_two_thick_slices_ends_there(plane):
    volume = MetaTensor(torch.zeros(1, 10, 10, 4), affine=torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0])))
    case = ToModelGridd("image", (1.25, 1.25, 1.25))({"image": volume})
    case["pred"] = torch.zeros(2, *case["image"].shape[1:])
    case["pred"][0], case["pred"][1, 2:5, 2:5, plane] = 5.0, 9.0
    label_map = RestoreLabelMapd("pred", threshold=0.1)(case)["pred"].as_tensor()[0]
    probability = RestoreProbabilityd("pred")(case)["pred"].as_tensor()[0]
    assert torch.equal(label_map > 0, probability >= 0.1)
    is_reached = plane % 4 in (1, 2)  # slices of the source lie in the middle of four planes of the model
    assert label_map.any(dim=(0, 1)).tolist() == [is_reached and index == plane // 4 for index in range(4)]
