from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest
import torch

from lightunet_monai.errors import UsageError
from lightunet_monai.simulation import RECIPES, SimulatedCase, SimulationSettings, Tissue, simulate_case
from lightunet_monai.simulation import case as case_module
from lightunet_monai.simulation.grid import Grid
from lightunet_monai.simulation.projection import sample_projection
from lightunet_monai.simulation.random_streams import RandomStreams
from lightunet_monai.simulation.scanner import Scan, ScannerPlan, noise_level, sample_scanner, scan

SMALL = SimulationSettings(max_voxels=64, with_lesion=1.0)
SEEDS = range(300, 306)


@cache
def small_case(seed: int) -> SimulatedCase:
    return simulate_case(seed, settings=SMALL)


def test_the_same_seed_gives_the_same_case() -> None:
    first, second = small_case(300), simulate_case(300, settings=SMALL)
    np.testing.assert_array_equal(first.volume_hu, second.volume_hu)
    np.testing.assert_array_equal(first.tissue_map, second.tissue_map)
    np.testing.assert_array_equal(first.affine, second.affine)
    assert first.parameters == second.parameters


def test_another_seed_gives_another_case() -> None:
    assert small_case(300).parameters["breast"] != small_case(301).parameters["breast"]


def test_the_number_of_threads_does_not_change_a_voxel() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = simulate_case(302, settings=SMALL)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(single.volume_hu, small_case(302).volume_hu)


def test_arrays_have_the_documented_types_and_one_shape() -> None:
    case = small_case(300)
    assert (case.volume_hu.dtype, case.label_map.dtype, case.tissue_map.dtype) == (np.int16, np.uint8, np.uint8)
    assert case.volume_hu.shape == case.label_map.shape == case.tissue_map.shape
    assert max(case.volume_hu.shape) <= SMALL.max_voxels + 1


def test_parameters_are_json() -> None:
    assert json.loads(json.dumps(small_case(300).parameters))["seed"] == 300


@pytest.mark.parametrize("seed", SEEDS)
def test_every_labelled_lesion_lies_where_the_list_says(seed: int) -> None:
    case = small_case(seed)
    voxels = np.argwhere(case.label_map == 1)
    world = voxels @ case.affine[:3, :3].T + case.affine[:3, 3]
    voxel = float(np.abs(np.linalg.det(case.affine[:3, :3]))) ** (1 / 3)
    for lesion in case.lesions:
        if lesion.label_voxels:
            nearest = np.linalg.norm(world - np.asarray(lesion.centre), axis=1).min()
            assert nearest <= 0.5 * lesion.equivalent_diameter + 2.0 * voxel


@pytest.mark.parametrize("seed", SEEDS)
def test_label_voxels_add_up_to_the_lesion_list(seed: int) -> None:
    case = small_case(seed)
    assert int((case.label_map == 1).sum()) == sum(lesion.label_voxels for lesion in case.lesions)
    assert set(np.unique(case.label_map)) <= {0, 1}


def test_label_volume_agrees_with_the_painted_volume() -> None:
    lesions = [(lesion, small_case(seed)) for seed in SEEDS for lesion in small_case(seed).lesions]
    large = [(lesion, case) for lesion, case in lesions if lesion.label_voxels >= 120]
    assert len(large) >= 3
    for lesion, case in large:
        drawn_ml = lesion.label_voxels * abs(np.linalg.det(case.affine[:3, :3])) / 1000.0
        assert drawn_ml == pytest.approx(lesion.volume_ml, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
def test_tumour_in_the_tissue_map_is_what_is_labelled(seed: int) -> None:
    case = small_case(seed)
    assert not np.any((case.tissue_map == Tissue.TUMOUR) & (case.label_map == 0))
    labelled = case.tissue_map[case.label_map == 1]
    assert set(np.unique(labelled)) <= {Tissue.TUMOUR, Tissue.CALCIFICATION}


def test_look_alikes_are_not_labelled() -> None:
    benign = 0
    for seed in SEEDS:
        case = small_case(seed)
        kinds = (Tissue.BENIGN, Tissue.METAL, Tissue.IMPLANT)
        benign += int(np.isin(case.tissue_map, kinds).sum())
        assert not np.any(np.isin(case.tissue_map, kinds) & (case.label_map == 1))
    assert benign > 0


def test_cases_without_lesions_have_an_empty_label_map() -> None:
    case = simulate_case(5, settings=SMALL.changed(with_lesion=0.0))
    assert case.lesions == ()
    assert not case.label_map.any()


def test_glandular_fraction_is_the_one_asked_for() -> None:
    settings = SMALL.changed(
        glandular_fraction=(0.25, 0.25), with_lesion=0.0, families=("pendant",), family_weights=(1.0,), with_implant=0.0
    )
    tissue = simulate_case(6, settings=settings).tissue_map
    breast = np.isin(tissue, (Tissue.ADIPOSE, Tissue.FIBROGLANDULAR, Tissue.LIGAMENT, Tissue.VESSEL_OR_DUCT))
    assert np.sum(tissue == Tissue.FIBROGLANDULAR) / breast.sum() == pytest.approx(0.25, abs=0.06)


def test_chest_ct_shows_lungs_and_bone() -> None:
    case = simulate_case(7, settings=SMALL.changed(families=("chest",), family_weights=(1.0,)))
    assert {Tissue.LUNG, Tissue.BONE, Tissue.MUSCLE} <= set(np.unique(case.tissue_map))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"spacing": (0.8, 0.5)}, "spacing"),
        ({"spacing": (0.0, 0.5)}, "spacing"),
        ({"spacing": (math.nan, math.nan)}, "spacing"),
        ({"spacing": (0.5, math.inf)}, "spacing"),
        ({"spacing": (0.5, 20.5)}, "at most 20"),
        ({"max_voxels": 8}, "max_voxels"),
        ({"max_voxels": 2049}, "32 to 2048"),
        ({"family_weights": (0.5, 0.5)}, "family_weights"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        SimulationSettings().changed(**changes)


def test_validation_test_and_hard_use_filters_that_training_never_uses() -> None:
    train = RECIPES["train"].noise_cuts
    for name in ("validation", "test", "noisy_test", "hard"):
        for low, high in RECIPES[name].noise_cuts:
            assert all(high <= first or last <= low for first, last in train)


@pytest.mark.parametrize(("recipe", "low", "high"), [("train", 3.5, 14.5), ("noisy", 14.0, 90.0)])
def test_noise_is_what_the_recipes_promise_for_voxels_of_nine_tenths_of_a_millimetre(recipe, low, high) -> None:
    grid = Grid((64, 64, 64), (0.9, 0.9, 0.9), (0.0, 0.0, 0.0))
    plans = [sample_scanner(np.random.default_rng(seed), RECIPES[recipe]) for seed in range(200)]
    levels = [noise_level(plan, grid) for plan in plans]
    assert low <= min(levels) < 1.3 * low
    assert high / 1.3 < max(levels) <= high


def test_parameters_name_the_noise_that_the_volume_has() -> None:
    case = simulate_case(300, settings=SMALL.changed(noise_hu=(1e4, 1e4)))
    assert case.parameters["scanner"]["noise_hu"] == pytest.approx(1e4)
    assert case.parameters["scanner"]["noise_level_hu"] == 90.0


def test_photons_of_a_projection_are_those_of_the_recipe() -> None:
    drawn = [
        [sample_projection(np.random.default_rng(seed), RECIPES[name].photons).photons for seed in range(50)]
        for name in ("noisy", "train")
    ]
    assert 5.0e2 <= min(drawn[0]) < max(drawn[0]) <= 1.0e4 <= min(drawn[1]) < max(drawn[1]) <= 1.0e5


def test_hard_shares_neither_density_nor_kind_nor_scanner_with_training() -> None:
    train, hard = RECIPES["train"], RECIPES["hard"]
    assert hard.glandular_fraction[0] >= train.glandular_fraction[1]
    assert not set(hard.lesion_kinds) & set(train.lesion_kinds)
    for name in ("noise_hu", "blur_mm", "cupping"):
        assert getattr(hard, name)[0] >= getattr(train, name)[1]


def test_labels_end_where_a_truncated_field_of_view_ends() -> None:
    truncated = [s for s in range(400, 600) if _scanner_of(s).field_of_view > 0.0][:4]
    covered = 0
    for seed in truncated:
        case = simulate_case(seed, settings=SMALL)
        corner = case.volume_hu[0, 0, 0]  # beyond the field of view everything has the value of air without noise
        beyond = case.volume_hu == corner
        assert beyond.mean() > 0.05
        assert (case.tissue_map[beyond] > 0).mean() < 1e-3
        assert not case.label_map[beyond].any()
        covered += int((case.tissue_map > 0).sum())
    assert len(truncated) == 4
    assert covered > 1000


@pytest.mark.parametrize("seed", [1194, 1722])  # tumours that reach into slices filled with air
def test_slices_filled_with_air_have_neither_label_nor_tissue(seed: int) -> None:
    case = small_case(seed)
    along = int(np.abs(case.affine[1, :3]).argmax())  # front to back is the rotation axis of both
    volume, label, tissue = (
        np.moveaxis(values, along, 0).reshape(values.shape[along], -1)
        for values in (case.volume_hu, case.label_map, case.tissue_map)
    )
    filled = np.flatnonzero(np.ptp(volume, axis=1) == 0)
    assert len(filled)
    assert not label[filled].any()
    assert not tissue[filled].any()
    assert label.any()
    assert int(label.sum()) == sum(lesion.label_voxels for lesion in case.lesions)


def test_a_tumour_without_image_is_listed_without_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = 304
    before = small_case(seed)
    gone = before.lesions[0]

    def scan_without_it(plan: ScannerPlan, hu: torch.Tensor, outside: torch.Tensor, grid: Grid, *rest, **options):
        delivered = scan(plan, hu, outside, grid, *rest, **options)
        distance = np.linalg.norm(np.stack(grid.meshes()) - np.reshape(gone.centre, (3, 1, 1, 1)), axis=0)
        return Scan(delivered.hu, torch.from_numpy(distance < gone.equivalent_diameter))

    monkeypatch.setattr(case_module, "scan", scan_without_it)
    after = simulate_case(seed, settings=SMALL)
    voxels = [lesion.label_voxels for lesion in before.lesions]
    assert [lesion.label_voxels for lesion in after.lesions] == [0, *voxels[1:]]
    assert voxels[0] > 0
    assert int(after.label_map.sum()) == sum(voxels[1:]) > 0
    assert after.parameters["lesions"][0]["label_voxels"] == 0
    np.testing.assert_array_equal(after.volume_hu, before.volume_hu)


def _scanner_of(seed: int) -> ScannerPlan:
    return sample_scanner(RandomStreams(seed).part("scanner"), SMALL)


@pytest.mark.parametrize("seed", [1, 9])
def test_masked_air_leaves_the_nipple_where_the_tissue_map_has_it(seed: int) -> None:
    case = simulate_case(seed, settings=SimulationSettings(max_voxels=96))
    assert case.parameters["scanner"]["air"] == "masked"
    air = case.volume_hu == case.volume_hu.min()
    assert air.any()
    assert not (air & (case.tissue_map != int(Tissue.OUTSIDE))).any()
