"""More than two channels: the threshold is the tumour's alone, and what is taken from it becomes tissue."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from lightunet_monai.errors import UnsupportedImageError
from lightunet_monai.transforms import (
    CapDoubtfulPiecesd,
    MergeTissuesd,
    RandSampleSlicesd,
    RemoveSmallPiecesd,
    RestoreLabelMapd,
    RestoreProbabilityd,
    ToModelGridd,
)
from lightunet_monai.transforms.channels import lesion_margin

TUMOUR, GLAND, FAT, SKIN = 1, 2, 3, 4


def _logits(labels, sure=6.0):
    """Logits whose softmax clearly names the label of each voxel."""
    return torch.nn.functional.one_hot(torch.as_tensor(labels, dtype=torch.int64), 5).movedim(-1, 0).float() * sure


def _breast(shape=(20, 20, 20)):
    """Fat in air, with a core of gland."""
    labels = np.zeros(shape, np.uint8)
    labels[3:17, 3:17, 3:17] = FAT
    labels[7:13, 7:13, 7:13] = GLAND
    return labels


def _case(logits):
    volume = MetaTensor(torch.zeros(1, *logits.shape[1:]), affine=torch.eye(4, dtype=torch.float64))
    return {**ToModelGridd("image", (1, 1, 1))({"image": volume}), "pred": logits}


def _restore(logits, **options):
    return RestoreLabelMapd("pred", **options)(_case(logits))


def _tumour_probability(logits):
    return torch.softmax(logits, dim=0)[TUMOUR]


def test_the_label_is_the_largest_channel_where_the_tumour_is_far_below_its_threshold():
    labels = _breast()
    labels[3] = SKIN
    np.testing.assert_array_equal(_restore(_logits(labels))["pred"][0].numpy(), labels)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_the_threshold_is_on_the_probability_of_tumour_against_the_rest(threshold):
    torch.manual_seed(0)
    logits = 2 * torch.randn(5, 9, 9, 9)
    label_map = _restore(logits, threshold=threshold)["pred"][0]
    expected = _tumour_probability(logits) >= threshold
    assert torch.equal(label_map == TUMOUR, expected)
    rest = logits.clone()
    rest[TUMOUR] = -torch.inf
    assert torch.equal(label_map[~expected].long(), rest.argmax(dim=0)[~expected])
    probability = RestoreProbabilityd("pred")(_case(logits))["pred"][0]
    torch.testing.assert_close(probability, _tumour_probability(logits))


def test_a_doubtful_piece_becomes_the_tissue_around_it_and_never_background_inside_the_breast():
    logits = _logits(_breast())
    logits[TUMOUR, 9:11, 9:11, 9:11] = 7.0  # just above the gland
    logits[0, 9:11, 9:11, 9:11] = 6.5  # background is the second most probable
    logits[TUMOUR, 14:16, 14:16, 14:16] = 20.0  # sure
    cap = CapDoubtfulPiecesd("pred", threshold=0.3, sure_threshold=0.95)
    before = _restore(logits, threshold=0.3)["pred"][0].numpy()
    assert (before == TUMOUR).sum() == 16
    capped = cap({"pred": logits})["pred"]
    after = _restore(capped, threshold=0.3)["pred"][0].numpy()
    assert (after[9:11, 9:11, 9:11] == GLAND).all()
    assert (after[14:16, 14:16, 14:16] == TUMOUR).all()
    assert (after == TUMOUR).sum() == 8
    assert float(logits[TUMOUR, 9, 9, 9]) == 7.0  # the input is not changed


def test_a_piece_that_the_judge_refuses_becomes_the_tissue_around_it_and_the_others_get_its_margin():
    logits = _logits(_breast())
    logits[TUMOUR, 9:11, 9:11, 9:11] = 7.0
    logits[0, 9:11, 9:11, 9:11] = 6.5  # background is the second most probable
    logits[TUMOUR, 14:16, 14:16, 14:16] = 20.0
    wanted = {}

    def judge(margin, image):
        wanted["margin"] = margin.copy()
        wanted["margin"][9:11, 9:11, 9:11] = -8.0
        wanted["margin"][14:16, 14:16, 14:16] = 2.5
        return wanted["margin"]

    cap = CapDoubtfulPiecesd("pred", threshold=0.3, sure_threshold=0.3, judge=judge)
    judged = cap({"pred": logits, "image": torch.zeros(2, *logits.shape[1:])})["pred"]
    torch.testing.assert_close(lesion_margin(judged), torch.from_numpy(wanted["margin"]), atol=1e-4, rtol=1e-5)
    after = _restore(judged, threshold=0.3)["pred"][0].numpy()
    assert (after[9:11, 9:11, 9:11] == GLAND).all()
    assert (after[14:16, 14:16, 14:16] == TUMOUR).all()
    assert (after == TUMOUR).sum() == 8
    assert float(logits[TUMOUR, 14, 14, 14]) == 20.0  # the input is not changed


def test_a_doubtful_piece_outside_the_breast_becomes_background():
    logits = _logits(_breast())
    logits[TUMOUR, 0:2, 0:2, 0:2] = 7.0
    capped = CapDoubtfulPiecesd("pred", threshold=0.3, sure_threshold=0.95)({"pred": logits})["pred"]
    assert (_restore(capped, threshold=0.3)["pred"][0, :2, :2, :2] == 0).all()


def _clean(logits, diameter):
    case = _restore(logits, otherwise_key="otherwise")
    case = RemoveSmallPiecesd("pred", diameter, otherwise_key="otherwise")(case)
    assert "otherwise" not in case
    return case["pred"][0].numpy()


def test_a_small_piece_becomes_the_most_probable_tissue_inside_the_breast_and_background_outside():
    logits = _logits(_breast())
    logits[TUMOUR, 5, 5, 5] = 20.0  # in fat
    logits[0, 5, 5, 5] = 10.0
    logits[TUMOUR, 10, 10, 10] = 20.0  # in gland
    logits[TUMOUR, 0, 0, 0] = 20.0  # in air
    logits[TUMOUR, 13:16, 5:8, 5:8] = 20.0  # large enough
    cleaned = _clean(logits, 2.0)
    assert cleaned[5, 5, 5] == FAT
    assert cleaned[10, 10, 10] == GLAND
    assert cleaned[0, 0, 0] == 0
    assert (cleaned[13:16, 5:8, 5:8] == TUMOUR).all()
    assert (cleaned == TUMOUR).sum() == 27


def test_small_pieces_of_tissue_stay():
    labels = _breast()
    labels[5, 5, 5] = GLAND
    logits = _logits(labels)
    logits[TUMOUR, 15, 15, 15] = 20.0
    cleaned = _clean(logits, 3.0)
    assert cleaned[5, 5, 5] == GLAND
    assert cleaned[15, 15, 15] == FAT


def test_tumour_labels_on_the_model_grid_do_not_depend_on_the_tissues_around():
    labels = np.zeros((1, 24, 24, 24), np.uint8)
    labels[0, 4:20, 4:20, 4:20] = FAT
    labels[0, 9:14, 8:15, 10:13] = TUMOUR
    affine = torch.diag(torch.tensor([0.7, 0.7, 0.7, 1.0], dtype=torch.float64))
    several = MetaTensor(torch.from_numpy(labels), affine=affine)
    alone = MetaTensor(torch.from_numpy(labels == TUMOUR).float(), affine=affine)
    both = ToModelGridd("label", (2, 2, 2), label_keys="label", has_tissues=True)({"label": several})["label"]
    one = ToModelGridd("label", (2, 2, 2), label_keys="label")({"label": alone})["label"]
    assert torch.equal((both == TUMOUR).float().as_tensor(), one.as_tensor())
    assert set(both.unique().tolist()) == {0, TUMOUR, FAT}


def _merge(label, tissue=None, values=None):
    case = {"label": MetaTensor(torch.as_tensor(label)[None])}
    if tissue is not None:
        case["tissue"] = MetaTensor(torch.as_tensor(tissue)[None])
    return MergeTissuesd("label", "tissue", values or {"0": 0, "1": 3, "2": 2, "9": 2})(case)


def test_lesions_of_another_value_win_over_the_tissue_too_and_one_that_is_a_tissue_is_refused():
    label = np.zeros((3, 3, 3), np.uint8)
    label[0] = 255
    merged = _merge(label, np.ones((3, 3, 3), np.uint8))
    np.testing.assert_array_equal(merged["label"].as_tensor()[0].numpy(), np.where(label == 255, TUMOUR, FAT))
    label[0] = FAT
    with pytest.raises(UnsupportedImageError, match="one value for lesions"):
        _merge(label, np.ones((3, 3, 3), np.uint8))


def test_the_tumour_label_wins_over_the_tissue():
    label = np.zeros((3, 3, 3), np.uint8)
    label[0] = TUMOUR
    tissue = np.ones((3, 3, 3), np.uint8)
    tissue[:, 0] = 2
    tissue[0, 2] = 9
    merged = _merge(label, tissue)
    assert "tissue" not in merged
    expected = np.where(label == TUMOUR, TUMOUR, np.where(tissue == 1, FAT, GLAND))
    np.testing.assert_array_equal(merged["label"][0].numpy(), expected)
    assert label.max() == TUMOUR


def test_a_label_map_that_names_the_tissues_needs_no_tissue_map_and_one_without_is_refused():
    label = np.full((3, 3, 3), SKIN, np.uint8)
    np.testing.assert_array_equal(_merge(label)["label"][0].numpy(), label)
    with pytest.raises(UnsupportedImageError, match="no tissue") as caught:
        _merge(np.ones((3, 3, 3), np.uint8))
    assert "--tissues" in caught.value.hint


def test_a_tissue_without_a_label_is_refused_by_its_value():
    with pytest.raises(UnsupportedImageError, match=r"\[77\]"):
        _merge(np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 77, np.uint8))


def test_slices_with_a_tumour_are_drawn_on_purpose_not_those_with_tissue():
    labels = torch.full((1, 12, 12, 12), FAT, dtype=torch.uint8)
    labels[0, :, :, 4] = TUMOUR
    sample = RandSampleSlicesd((8, 8), num_samples=6, lesion_share=1.0).set_random_state(0)
    drawn = sample({"image": torch.ones(1, 12, 12, 12), "label": labels})
    assert all((item["label"] == TUMOUR).all() for item in drawn)
