from __future__ import annotations

import numpy as np
import pytest
import torch

from lightunet_monai.simulation.canvas import Canvas, tube_share
from lightunet_monai.simulation.drawing import draw_label
from lightunet_monai.simulation.grid import Grid
from lightunet_monai.simulation.lesion_shapes import ellipsoid, lobulated, roughen, spicules
from lightunet_monai.simulation.lesions import Lesion, LesionPlan, Site, paint_lesion
from lightunet_monai.simulation.lookalikes import LookAlike, paint_lookalike
from lightunet_monai.simulation.tissues import Tissue, TissueHu

GRID = Grid((80, 80, 80), (0.5, 0.5, 0.5), (-19.75, -19.75, -19.75))
HU = TissueHu(
    air=-1000.0, adipose=-100.0, fibroglandular=30.0, skin=50.0, muscle=50.0, ligament=25.0, duct=20.0, vessel=40.0
)
CENTRE = Site(np.zeros(3), 8.0)


def make_canvas() -> Canvas:
    return Canvas(
        GRID, torch.full(GRID.shape, HU.adipose), torch.full(GRID.shape, int(Tissue.ADIPOSE), dtype=torch.uint8)
    )


def make_plan(kind: str, **changes: object) -> LesionPlan:
    values: dict[str, object] = {
        "kind": kind,
        "diameter": 14.0,
        "contrast_hu": 30.0,
        "margin": 0.2,
        "elongation": 1.5,
        "roughness": 0.12,
        "core_hu": 0.0,
        "texture_hu": 0.0,
        "in_gland": False,
        "satellites": 0,
        "calcified": False,
    }
    return LesionPlan(**{**values, **changes})  # type: ignore[arg-type]


def whole_patch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return GRID.offsets((slice(None), slice(None), slice(None)), np.zeros(3))


def volume_of(distance: np.ndarray) -> float:
    return float(np.clip(0.5 - distance / GRID.voxel_size, 0, 1).sum()) * GRID.voxel_size**3


@pytest.mark.parametrize("elongation", [1.0, 1.4, 2.0])
def test_an_ellipsoid_has_the_volume_of_its_equivalent_sphere(elongation: float) -> None:
    distance = ellipsoid(whole_patch(), 7.0, np.random.default_rng(1), elongation=elongation)
    assert volume_of(distance) == pytest.approx(4 / 3 * np.pi * 7.0**3, rel=0.02)


def test_roughening_keeps_the_volume_within_a_quarter() -> None:
    random = np.random.default_rng(2)
    smooth = ellipsoid(whole_patch(), 7.0, random, elongation=1.2)
    rough = roughen(smooth, whole_patch(), 7.0, random, amount=0.12)
    assert volume_of(rough) == pytest.approx(volume_of(smooth), rel=0.25)
    assert np.abs(rough - smooth).max() > 0.5


def test_a_lobulated_mass_holds_its_centre_and_stays_within_reach() -> None:
    distance = lobulated(whole_patch(), 7.0, np.random.default_rng(3))
    assert distance[40, 40, 40] < 0
    assert volume_of(distance) < 4 / 3 * np.pi * 14.0**3


def test_spicules_have_the_documented_number_and_taper() -> None:
    branches = spicules(np.random.default_rng(4), 6.0)
    assert 10 <= len(branches) / 3 <= 100
    assert all(radii[1] < radii[0] for _, _, radii in branches)


@pytest.mark.parametrize("kind", ["oval", "lobulated", "irregular", "spiculated", "ring", "dumbbell", "plaque"])
def test_every_kind_is_painted_with_its_contrast_and_label(kind: str) -> None:
    canvas = make_canvas()
    lesion = paint_lesion(canvas, make_plan(kind), CENTRE, HU, np.random.default_rng(5))
    label, (drawn,) = draw_label(canvas.tumour, [lesion], GRID)
    assert drawn.label_voxels == label.sum() > 0
    assert float(np.median(canvas.hu.numpy()[label == 1])) == pytest.approx(HU.fibroglandular + 30.0, abs=2.0)
    assert 8.0 < lesion.equivalent_diameter < 20.0


def test_a_tube_thinner_than_a_voxel_keeps_its_volume() -> None:
    start, end = np.array([-10.0, 0.1, 0.2]), np.array([10.0, 0.2, -0.1])
    tube = tube_share(GRID, start, end, (0.15, 0.15))
    assert tube is not None
    assert float(tube[1].sum()) * GRID.voxel_size**3 == pytest.approx(np.pi * 0.15**2 * 20.0, rel=0.25)


def test_loose_pieces_are_not_drawn() -> None:
    tumour = torch.zeros(GRID.shape)
    tumour[30:50, 30:50, 30:50] = 1.0
    tumour[60, 60, 60] = 1.0
    lesion = Lesion("oval", (0.0, 0.0, 0.0), 10.0, 1.0, 30.0, 0.0)
    label, (drawn,) = draw_label(tumour, [lesion], GRID)
    assert label[60, 60, 60] == 0
    assert drawn.label_voxels == 20**3


def test_a_tumour_on_both_sides_of_a_slice_without_image_is_drawn_on_both() -> None:
    tumour = torch.zeros(GRID.shape)
    tumour[30:50, 30:50, 30:50] = 1.0
    lesion = Lesion("oval", (0.0, 0.0, 0.0), 10.0, 1.0, 30.0, 0.0)
    without = torch.zeros(GRID.shape, dtype=torch.bool)
    without[:, 31:33] = True
    label, (drawn,) = draw_label(tumour, [lesion], GRID, without_image=without)
    assert (label.sum(axis=(0, 2)) > 0).nonzero()[0].tolist() == [30, *range(33, 50)]
    assert drawn.label_voxels == label.sum() == 20 * 20 * 18


def test_a_loose_piece_does_not_take_the_place_of_a_tumour_without_image() -> None:
    tumour = torch.zeros(GRID.shape)
    tumour[10:20, 10:20, 10:20] = 1.0
    tumour[30:50, 30:50, 30:50] = 1.0
    tumour[56, 56, 56] = 1.0
    lesions = [Lesion("oval", (x, x, x), 10.0, 1.0, 30.0, 0.0) for x in (-12.5, 0.0)]
    without = torch.zeros(GRID.shape, dtype=torch.bool)
    without[30:50, 30:50, 30:50] = True
    label, drawn = draw_label(tumour, lesions, GRID, without_image=without)
    assert [lesion.label_voxels for lesion in drawn] == [10**3, 0]
    assert label.sum() == 10**3


@pytest.mark.parametrize("kind", ["cyst", "fibroadenoma", "node", "scar"])
def test_soft_look_alikes_are_never_brighter_than_gland(kind: str) -> None:
    canvas = make_canvas()
    paint_lookalike(canvas, LookAlike(kind, 10.0, -5.0, 1.3), CENTRE, HU, np.random.default_rng(6))
    assert float(canvas.hu.max()) <= HU.fibroglandular
    assert bool((canvas.tissue == int(Tissue.BENIGN)).any())
    assert float(canvas.tumour.max()) == 0.0


def test_a_speck_below_voxel_size_keeps_its_share_of_the_voxel() -> None:
    canvas = make_canvas()
    finding = LookAlike("microcalcifications", 5.0, 2000.0, 1.0)
    paint_lookalike(canvas, finding, CENTRE, HU, np.random.default_rng(7))
    raised = (canvas.hu - HU.adipose).sum() * GRID.voxel_size**3 / (2000.0 - HU.adipose)
    # 5 to 30 specks of 0.15 to 0.6 mm hold 0.01 to 3.4 cubic millimetres.
    assert 0.005 < float(raised) < 3.5
