"""A quick start, and nothing sent over the network. Each in a process of its own: imports cannot be taken back."""

import json
import subprocess
import sys

import pytest

from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_affine, make_nifti, make_voxels

QUICK = "from lightunet_monai.inference.startup import quicken_monai; quicken_monai()\n"


def _python(code, *arguments, check=True):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)], capture_output=True, text=True, check=check
    )


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


def test_a_quick_start_gives_the_same_label_map_and_loads_no_training(a_bundle, tmp_path):
    image = make_nifti(tmp_path / "a.nii.gz", make_voxels((40, 36, 30)), make_affine((3, 3, 3)))
    code = """
import sys, numpy as np
from lightunet_monai import Predictor
np.save(sys.argv[3], Predictor(sys.argv[1]).segment(sys.argv[2]).segmentation.label_map)
unused = ("ignite", "monai.handlers", "monai.losses", "pydicom", "matplotlib")  # scipy.ndimage measures pieces
print(*(name in sys.modules for name in unused))
"""
    quick = _python(QUICK + code, a_bundle, image, tmp_path / "quick.npy")
    whole = _python(code, a_bundle, image, tmp_path / "whole.npy")
    assert quick.stdout.split() == ["False"] * 5
    assert whole.stdout.split()[2] == "True"
    assert (tmp_path / "quick.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_after_a_quick_start_the_rest_of_monai_is_there_when_it_is_named():
    code = """
import monai
print(monai.losses.DiceLoss.__name__, monai.networks.nets.UNet.__name__, hasattr(monai, "nonsense"))
import pkgutil
print(len(list(pkgutil.walk_packages(monai.__path__, prefix="monai."))) > 100)
from monai.utils.module import load_submodules
print(load_submodules.__globals__["walk_packages"] is pkgutil.walk_packages)
"""
    assert _python(QUICK + code).stdout.split() == ["DiceLoss", "UNet", "False", "True", "True"]


def test_what_a_quick_start_put_off_is_loaded_when_it_is_used():
    code = """
import sys, numpy as np, torch
import monai, nibabel
print("scipy.ndimage" in sys.modules, "pydicom" in sys.modules)
hole = torch.ones(1, 5, 5)
hole[0, 2, 2] = 0
print(bool(monai.transforms.FillHoles()(hole)[0, 2, 2]), "scipy.ndimage" in sys.modules)
import monai.data.image_reader as readers
print(isinstance(readers.pydicom.Dataset(), readers.pydicom.Dataset), "pydicom" in sys.modules)
import pydicom, scipy.ndimage
print(pydicom.Dataset is not readers.pydicom.Dataset, scipy.ndimage.label(np.ones((2, 2)))[1])
"""
    assert _python(QUICK + code).stdout.split() == ["False", "False", "True", "True", "True", "True", "True", "1"]


def test_a_bundle_may_name_what_a_quick_start_left_out(a_bundle, tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["model_size"] = {"_target_": "compute_average_surface_distance", "_mode_": "callable"}  # of monai.metrics
    path.write_text(json.dumps(config))
    code = """
import sys
from lightunet_monai.inference.bundle import open_bundle
print(open_bundle(sys.argv[1]).settings["model_size"].__name__)
"""
    assert _python(QUICK + code, bundle).stdout.strip() == "compute_average_surface_distance"
    config["model_size"] = {"_target_": "no_such_thing"}
    path.write_text(json.dumps(config))
    refused = _python(QUICK + code, bundle, check=False)
    assert "BundleError" in refused.stderr
    assert "no_such_thing" in refused.stderr


def test_the_command_starts_quickly_only_where_the_process_is_its_own():
    code = """
import sys
from lightunet_monai.cli import main
names = lambda: [type(finder).__name__ for finder in sys.meta_path]
main(["segment", "/no/such/study", "-o", "/no/such/folder"])
print("_QuickFinder" in names())
sys.argv[1:] = ["segment", "/no/such/study", "-o", "/no/such/folder"]
main()
print("_QuickFinder" in names(), "monai" in sys.modules)
"""
    assert _python(code).stdout.split() == ["False", "True", "False"]


def test_openvino_is_imported_without_its_telemetry():
    code = """
import sys
from lightunet_monai.inference.optional import import_openvino
ov = import_openvino()
from openvino.tools.ovc import telemetry_utils
print("openvino_telemetry" in sys.modules, telemetry_utils.tm.__name__)
"""
    assert _python(code).stdout.split() == ["False", "openvino.tools.ovc.telemetry_stub"]
