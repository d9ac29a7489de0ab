"""What only a GPU can show; without one these tests say so and do nothing."""

import numpy as np
import pytest
import torch

from lightunet_monai.inference import Predictor
from lightunet_monai.options import RunOptions
from lightunet_monai.transforms.slab_download import SlabDownload
from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_affine, make_nifti, make_voxels

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@pytest.fixture(scope="module")
def a_case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    bundle = tiny_bundle(folder / "bundle")
    image = make_nifti(folder / "a.nii.gz", make_voxels((70, 60, 50)), make_affine((1.1, 0.9, 1.3), turn_degrees=7))
    return bundle, image, Predictor(bundle, RunOptions(device="cpu", engine="torch")).segment(image).segmentation


@pytest.mark.parametrize("engine", ["torch", "torch-tuned", "auto"])
def test_a_gpu_gives_the_labels_of_the_reference_on_the_cpu(a_case, engine):
    bundle, image, expected = a_case
    found = Predictor(bundle, RunOptions(device="cuda", engine=engine)).segment(image).segmentation
    assert expected.label_map.any()
    both = 2 * np.sum((found.label_map > 0) & (expected.label_map > 0))
    assert both / (np.sum(found.label_map > 0) + np.sum(expected.label_map > 0)) > 0.995
    assert found.provenance.device.startswith("cuda")


def test_probabilities_come_back_from_the_gpu_whole(a_case):
    bundle, image, _ = a_case
    options = [RunOptions(device=device, engine="torch") for device in ("cpu", "cuda")]
    on_cpu, on_gpu = (
        Predictor(bundle, o).segment(image, with_probability=True).segmentation.probability for o in options
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=2e-3)


def test_slabs_from_the_gpu_arrive_in_order_and_whole():
    values = torch.arange(40 * 33 * 21, dtype=torch.float32).reshape(40, 33, 21)
    target = torch.zeros_like(values)
    on_gpu = values.cuda()
    with SlabDownload() as download:
        for start in range(0, 40, 3):
            download.put(target[start : start + 3], on_gpu[start : start + 3] * 1.0)
    torch.testing.assert_close(target, values, rtol=0, atol=0)
