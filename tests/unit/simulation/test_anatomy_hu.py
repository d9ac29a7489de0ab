from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from lightunet_monai.simulation import SimulationSettings, Tissue
from lightunet_monai.simulation.anatomy import Anatomy, build_anatomy
from lightunet_monai.simulation.breast import sample_breast_shape
from lightunet_monai.simulation.placement import plan_frame
from lightunet_monai.simulation.random_streams import RandomStreams

SETTINGS = SimulationSettings(
    max_voxels=110,
    spacing=(0.9, 0.9),
    styles=("compartments",),
    glandular_fraction=(0.3, 0.4),
    with_lesion=1.0,
    families=("pendant",),
    family_weights=(1.0,),
    lesion_diameter=(12.0, 20.0),
    with_contrast=0.0,
    with_implant=0.0,
)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    streams = RandomStreams(11)
    shape = sample_breast_shape(streams.part("breast"), SETTINGS)
    frame = plan_frame(shape, SETTINGS, 1, 2, streams.part("frame"))
    return build_anatomy(shape, frame, SETTINGS, streams, torch.device("cpu"))


def median_hu(anatomy: Anatomy, tissue: Tissue) -> float:
    mask = anatomy.canvas.tissue.numpy() == tissue
    inside = binary_erosion(mask)
    return float(np.median(anatomy.canvas.hu.numpy()[inside if inside.sum() > 20 else mask]))


@pytest.mark.parametrize(
    ("tissue", "name"),
    [(Tissue.ADIPOSE, "adipose"), (Tissue.FIBROGLANDULAR, "fibroglandular"), (Tissue.OUTSIDE, "air")],
)
def test_tissues_have_the_sampled_hounsfield_units(anatomy: Anatomy, tissue: Tissue, name: str) -> None:
    sampled = anatomy.parameters["tissue_hu"]
    assert isinstance(sampled, dict)
    assert median_hu(anatomy, tissue) == pytest.approx(sampled[name], abs=12.0)


def test_tumours_are_brighter_than_gland_by_their_contrast(anatomy: Anatomy) -> None:
    sampled = anatomy.parameters["tissue_hu"]
    assert isinstance(sampled, dict)
    assert anatomy.lesions
    contrasts = [lesion.contrast_hu + lesion.core_hu for lesion in anatomy.lesions]
    tumour = median_hu(anatomy, Tissue.TUMOUR)
    assert tumour - sampled["fibroglandular"] >= min(contrasts) - 5.0
    assert tumour > median_hu(anatomy, Tissue.FIBROGLANDULAR)


def test_skin_surrounds_the_breast(anatomy: Anatomy) -> None:
    tissue = anatomy.canvas.tissue.numpy()
    touches_air = ~binary_erosion(tissue != Tissue.OUTSIDE, border_value=1) & (tissue != Tissue.OUTSIDE)
    # Skin of about 1.3 mm fills less than half of some voxels of this coarse grid.
    assert np.mean(tissue[touches_air] == Tissue.SKIN) > 0.8


def test_nothing_is_painted_outside_the_skin(anatomy: Anatomy) -> None:
    outside = anatomy.fields.surface > 3.0
    assert outside.any()
    assert not anatomy.canvas.tumour.numpy()[anatomy.canvas.tissue.numpy() == Tissue.OUTSIDE].max() > 0.5
