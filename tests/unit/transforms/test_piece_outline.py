"""The contour of a piece on the edge in the image."""

import json

import numpy as np
import pytest
from scipy import ndimage

from lightunet_monai.transforms import PieceJudge, PieceOutline
from tests.builders.bundle import judge_content

SHAPE = (44, 40, 36)
CENTRE = (20.3, 19.1, 17.6)


def _distance(centre=CENTRE, shape=SHAPE):
    grid = np.indices(shape)
    return np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))).astype(np.float32)


def _hu(radius, distance=None, inside=1.0, outside=0.4, noise=0.0):
    distance = _distance() if distance is None else distance
    hu = np.where(distance <= radius, inside, outside).astype(np.float32)
    hu += noise * np.random.default_rng(3).standard_normal(hu.shape).astype(np.float32)
    return ndimage.gaussian_filter(hu, 0.6)


def _margin(slope=1.5, radius=6.0, distance=None):
    """0 at a radius, falling outwards: what a network gives that is sure far beyond the edge, or only in the middle."""
    return slope * (radius - (_distance() if distance is None else distance))


def _dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _judge(folder, outline, bias=4.0):
    path = folder / "pieces.json"
    path.write_text(json.dumps(judge_content(bias=bias)))
    return PieceJudge(path, outline)


@pytest.mark.parametrize("radius", [4.5, 6.0, 8.5])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_level_is_that_of_the_edge_whatever_the_logits_are(radius, noise):
    everywhere = np.ones(SHAPE, dtype=bool)
    margin = _margin()
    level = PieceOutline(smallest_share=0.0).level(margin, _hu(radius, noise=noise), everywhere, everywhere, everywhere)
    drawn, lesion = margin >= level, _distance() <= radius
    assert _dice(drawn, lesion) > 0.95
    assert _dice(margin >= -3.0, lesion) < 0.95


def test_the_scale_of_the_image_and_the_order_of_its_axes_do_not_count():
    everywhere = np.ones(SHAPE, dtype=bool)
    margin, hu = _margin(), _hu(7.3, noise=0.2)
    level = PieceOutline(smallest_share=0.0).level(margin, hu, everywhere, everywhere, everywhere)
    assert PieceOutline(smallest_share=0.0).level(
        margin, 400 * hu - 1000, everywhere, everywhere, everywhere
    ) == pytest.approx(level, abs=1e-3)
    turned = [a.transpose(2, 0, 1)[:, ::-1] for a in (margin, hu, everywhere)]
    assert PieceOutline(smallest_share=0.0).level(*turned, turned[2], turned[2]) == pytest.approx(level, abs=1e-4)


def test_a_little_noise_in_the_logits_moves_it_a_little():
    everywhere = np.ones(SHAPE, dtype=bool)
    margin, hu = _margin(), _hu(7.3, noise=0.2)
    noisy = margin + 0.02 * np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
    levels = [
        PieceOutline(smallest_share=0.0).level(m, hu, everywhere, everywhere, everywhere) for m in (margin, noisy)
    ]
    assert levels[0] == pytest.approx(levels[1], abs=0.1)
    assert levels[0] % 0.25 not in (0.0, 0.25)  # between the steps


def test_one_pass_gives_what_erosion_and_dilation_give():
    margin = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((20, 18, 16)).astype(np.float32), 1.5)
    margin *= 6 / np.abs(margin).max()
    hu = np.random.default_rng(2).standard_normal(margin.shape).astype(np.float32)
    hu += 0.3 * margin
    around = _distance((9, 9, 8), margin.shape) <= 6
    tissue = np.random.default_rng(4).random(margin.shape) > 0.2
    outline = PieceOutline(lowest=-2.0, highest=2.0, step=0.5, smoothing=1e-3, smallest_share=0.0)
    faces = ndimage.generate_binary_structure(3, 1)
    steps = {}
    for level in np.arange(-2.0, 2.1, 0.5):
        drawn = (margin >= level) & around
        inner = drawn & ~ndimage.binary_erosion(drawn, faces, border_value=1)
        outer = ndimage.binary_dilation(drawn, faces) & ~drawn & tissue
        steps[level] = hu[inner].mean() - hu[outer].mean()
    best = max(steps, key=steps.get)
    assert outline.level(margin, hu, around, around, tissue) == pytest.approx(best, abs=0.25)


def test_air_beside_skin_is_no_edge_of_a_tumour():
    distance = _distance()
    tissue = np.indices(SHAPE)[0] < 26  # air from there on, two voxels from the lesion
    hu = np.where(tissue, _hu(4.0), -1.0).astype(np.float32)
    everywhere = np.ones(SHAPE, dtype=bool)
    margin = _margin()
    level = PieceOutline(smallest_share=0.0).level(margin, hu, everywhere, everywhere, tissue)
    assert _dice(margin >= level, distance <= 4.0) > 0.9


def test_where_nothing_is_brighter_inside_there_is_no_level():
    everywhere = np.ones(SHAPE, dtype=bool)
    margin = _margin()
    assert (
        PieceOutline(smallest_share=0.0).level(
            margin, _hu(6.0, inside=0.4, outside=1.0), everywhere, everywhere, everywhere
        )
        is None
    )
    assert (
        PieceOutline(smallest_share=0.0).level(margin, np.zeros(SHAPE, np.float32), everywhere, everywhere, everywhere)
        is None
    )
    assert PieceOutline(smallest_share=0.0).level(margin - 100, _hu(6.0), everywhere, everywhere, everywhere) is None


def test_the_brightest_few_voxels_of_a_large_piece_are_not_taken_for_it():
    everywhere = np.ones(SHAPE, dtype=bool)
    margin, piece = _margin(radius=10.0), _distance() <= 12
    hu = _hu(2.5, inside=3.0) + _hu(11.0, inside=0.7)  # a bright spot in a pale mass
    kept = PieceOutline().level(margin, hu, piece, everywhere, everywhere)
    assert ((margin >= kept) & piece).sum() >= 0.5 * piece.sum()
    assert _dice(margin >= kept, _distance() <= 11.0) > 0.9
    free = PieceOutline(highest=14.0, smallest_share=0.0).level(margin, hu, piece, everywhere, everywhere)
    assert _dice(margin >= free, _distance() <= 2.5) > 0.7


def test_judged_pieces_are_drawn_at_the_edge_large_and_small(tmp_path):
    large, small = _distance((12, 19, 17)), _distance((32, 19, 17))
    margin = np.maximum(2.0 * (7.0 - large), 1.5 * (1.6 - small)).astype(np.float32)  # one too large, one too small
    hu = np.maximum(_hu(6.5, large), _hu(4.0, small))
    image = np.stack([np.full(SHAPE, 0.5, np.float32), hu])
    lesions = (large <= 6.5, small <= 4.0)
    plain = _judge(tmp_path, None)(margin, image) >= -3.0
    drawn = _judge(tmp_path, PieceOutline())(margin, image) >= -3.0
    left = np.indices(SHAPE)[0] < 24
    for side, lesion in zip((left, ~left), lesions, strict=True):
        assert _dice(plain & side, lesion) < 0.9
        assert _dice(drawn & side, lesion) > 0.93
    judged = _judge(tmp_path, PieceOutline())(margin, image)
    assert judged[left].max() == pytest.approx(4.0)
    assert judged[~left].max() == pytest.approx(4.0)
    far = (large > 13) & (small > 13)
    np.testing.assert_array_equal(judged[far], margin[far])


def test_a_piece_that_is_none_is_not_drawn_larger(tmp_path):
    margin = (1.5 * (1.6 - _distance())).astype(np.float32)
    image = np.stack([np.full(SHAPE, 0.5, np.float32), _hu(4.0)])
    judged = _judge(tmp_path, PieceOutline(), bias=-4.0)(margin, image)
    outside = margin < -3.0
    assert judged[~outside].max() == pytest.approx(-4.0)
    np.testing.assert_array_equal(judged[outside], margin[outside])


def test_a_piece_at_the_side_of_the_volume_is_drawn(tmp_path):
    distance = _distance((0.0, 19.0, 17.0))
    margin = _margin(distance=distance, radius=7.0)
    image = np.stack([np.full(SHAPE, 0.5, np.float32), _hu(7.5, distance)])
    drawn = _judge(tmp_path, PieceOutline())(margin.astype(np.float32), image) >= -3.0
    assert _dice(drawn, distance <= 7.5) > 0.93
