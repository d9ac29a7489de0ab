from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch

from lightunet_monai import simulation
from lightunet_monai.errors import UsageError
from lightunet_monai.simulation import SimulationSettings, simulate_case
from lightunet_monai.simulation.grid import Grid
from lightunet_monai.simulation.projection import (
    ProjectionPlan,
    project_and_reconstruct,
    sample_projection,
    split_materials,
)
from lightunet_monai.simulation.tissues import TissueHu
from lightunet_monai.simulation.xray import BEAMS, ENERGIES_KEV, attenuation, detected_spectrum, effective

HU = TissueHu(
    air=-1000.0, adipose=-150.0, fibroglandular=20.0, skin=40.0, muscle=50.0, ligament=15.0, duct=10.0, vessel=40.0
)


def is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


needs_numba = pytest.mark.skipif(not is_installed("numba"), reason="numba (extra projection) is not installed")


@pytest.mark.parametrize("beam", BEAMS)
def test_a_detected_spectrum_adds_to_one_and_ends_at_the_tube_voltage(beam: object) -> None:
    spectrum = detected_spectrum(beam)  # type: ignore[arg-type]
    assert spectrum.sum() == pytest.approx(1.0)
    assert np.all(spectrum[beam.kvp <= ENERGIES_KEV] == 0.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("beam", BEAMS)
def test_effective_energies_are_those_of_dedicated_breast_ct(beam: object) -> None:
    value = effective("water", beam)  # type: ignore[arg-type]
    energy = np.interp(-value, -attenuation("water"), ENERGIES_KEV)
    # Published mean energies behind a breast: about 35 keV at 49 kVp and 42 to 45 keV at 60 kVp.
    assert 32.0 < energy < 48.0


def test_materials_add_up_to_the_hounsfield_units_at_the_effective_energy() -> None:
    beam = BEAMS[1]
    hu = np.array([-1000.0, -600.0, -150.0, -60.0, 20.0, 70.0, 200.0, 900.0, 3000.0], dtype=np.float32)
    parts = split_materials(hu, HU, beam)
    names = ("adipose", "fibroglandular", "hydroxyapatite")
    total = sum(part * effective(name, beam) for part, name in zip(parts, names, strict=True))
    np.testing.assert_allclose((total / effective("water", beam) - 1.0) * 1000.0, hu, atol=0.5)


def test_without_numba_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "lightunet_monai.simulation.cone_beam", raising=False)
    monkeypatch.delattr(simulation, "cone_beam", raising=False)
    grid = Grid((8, 8, 8), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    plan = sample_projection(np.random.default_rng(0), (1.0e4, 1.0e5))
    with pytest.raises(UsageError, match="numba") as caught:
        project_and_reconstruct(plan, torch.zeros(grid.shape), HU, grid, np.random.default_rng(0))
    assert "lightunet_monai[projection]" in caught.value.hint


def test_the_chest_is_not_scanned_by_the_breast_scanner() -> None:
    with pytest.raises(UsageError, match="chest"):
        SimulationSettings(acquisition="projection")


@pytest.mark.slow
@needs_numba
def test_reconstruction_gives_back_the_hounsfield_units_in_place() -> None:
    grid = Grid((40, 24, 40), (3.0, 3.0, 3.0), (-58.5, 100.0, -58.5))
    x, y, z = grid.meshes()
    hu = np.full(grid.shape, -1000.0, dtype=np.float32)
    hu[(x**2 + z**2 < 45.0**2) & (y > 103.0)] = -150.0
    hu[((x - 15.0) ** 2 + (y - 130.0) ** 2 + z**2) < 12.0**2] = 20.0
    plan = ProjectionPlan(BEAMS[1], 650.0, 923.0, 60, 1e6, 0.0, 0.3, 0.0, 0.3, 1.0)
    result = project_and_reconstruct(plan, torch.from_numpy(hu), HU, grid, np.random.default_rng(1)).numpy()
    ball = ((x - 15.0) ** 2 + (y - 130.0) ** 2 + z**2) < 8.0**2
    fat = (x**2 + z**2 < 35.0**2) & (y > 108.0) & (y < 135.0) & (((x - 15.0) ** 2 + (y - 130.0) ** 2 + z**2) > 20.0**2)
    assert float(np.median(result[fat])) == pytest.approx(-150.0, abs=20.0)
    assert float(np.median(result[ball]) - np.median(result[fat])) == pytest.approx(170.0, abs=25.0)


@needs_numba
def test_air_alone_is_reconstructed_as_air() -> None:
    grid = Grid((24, 16, 24), (3.0, 3.0, 3.0), (-34.5, 0.0, -34.5))
    plan = ProjectionPlan(BEAMS[1], 650.0, 923.0, 40, 1e6, 0.0, 0.3, 0.0, 0.3, 1.0)
    result = project_and_reconstruct(plan, torch.full(grid.shape, -1000.0), HU, grid, np.random.default_rng(1))
    assert float((result + 1000.0).abs().mean()) < 20.0


@pytest.mark.slow
@needs_numba
def test_a_projection_case_is_complete_and_deterministic() -> None:
    settings = SimulationSettings(
        max_voxels=40, acquisition="projection", families=("pendant",), family_weights=(1.0,), with_lesion=1.0
    )
    first, second = simulate_case(3, settings=settings), simulate_case(3, settings=settings)
    np.testing.assert_array_equal(first.volume_hu, second.volume_hu)
    assert first.parameters["projection"] is not None
    assert first.label_map.any()
