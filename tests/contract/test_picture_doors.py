"""2-D images: Python, the command line and the bundle command give the same mask; reports say what is not known."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from PIL import Image

from lightunet_monai.cli import main
from lightunet_monai.errors import BundleError, GeometryError, UnsupportedImageError, WeightsError, find_own_error
from lightunet_monai.inference import Predictor
from lightunet_monai.inference.bundle import open_bundle
from lightunet_monai.inference.bundle_files import weights_path
from lightunet_monai.inputs import load_image2d, load_mask2d
from lightunet_monai.inputs.image2d_read import read_image2d
from lightunet_monai.options import RunOptions
from lightunet_monai.outputs.areas import measure_areas
from lightunet_monai.transforms import LoadImage2Dd, RemoveSmallPiecesd, RestoreLabelMapd, ToModelSized
from tests.builders.bundle import tiny_bundle
from tests.builders.pictures import make_dicom2d, make_mask, make_picture, make_pixels, make_region
from tests.builders.volume import make_nifti

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
NAME = "ultrasound"
TORCH = RunOptions(engine="torch", device="cpu")


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory):
    """The small bundle, its last bias moved so that the random network marks a part of the test picture."""
    folder = tmp_path_factory.mktemp("model")
    bundle = tiny_bundle(folder / "bundle")
    parts = open_bundle(bundle, TORCH, model=NAME)
    case = parts.preprocessing({"image": make_picture(folder / "a.png", make_pixels((150, 101)))})
    with torch.inference_mode():
        logits = parts.inferer(case["image"].as_tensor()[None], parts.network)[0]
    state = parts.network.state_dict()
    state["outc.bias"][1] -= (logits[1] - logits[0]).quantile(0.6)
    torch.save(state, weights_path(bundle, NAME))
    return bundle


@pytest.fixture(scope="module")
def a_predictor(a_bundle):
    return Predictor(a_bundle, TORCH, model=NAME)


def _segment(a_bundle, image, out, *more):
    return main(
        [
            "segment",
            str(image),
            "-o",
            str(out),
            "--bundle",
            str(a_bundle),
            "--engine",
            "torch",
            "--device",
            "cpu",
            *more,
        ]
    )


def _by_bundle_command(a_bundle, dataset_dir, out):
    configs = a_bundle / "configs"
    workflow = ConfigWorkflow(
        config_file=[str(configs / "inference.json"), str(configs / "image2d.json")],
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(a_bundle),
        dataset_dir=str(dataset_dir),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _report(folder):
    jsonschema = pytest.importorskip("jsonschema")
    values = json.loads((folder / "report.json").read_text())
    jsonschema.validate(values, json.loads(SCHEMA.read_text()))
    return values


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "dcm"])
def test_three_doors_give_the_same_mask_on_the_images_own_pixels(a_bundle, a_predictor, tmp_path, kind):
    pixels = make_pixels((150, 101))
    make = make_dicom2d if kind == "dcm" else make_picture
    path = make(tmp_path / "in" / f"case.{kind}", pixels)
    segmentation = a_predictor.segment(path).segmentation
    assert segmentation.label_map.shape == (150, 101, 1)
    assert 0 < segmentation.label_map.mean() < 1  # a mask that could differ
    expected = segmentation.label_map[:, :, 0].T * 255

    assert _segment(a_bundle, path, tmp_path / "cli", "--model", NAME) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "cli" / "mask.png")), expected)
    _by_bundle_command(a_bundle, tmp_path / "in", tmp_path / "by_bundle")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "by_bundle" / "case_mask.png")), expected)


def test_without_a_spacing_areas_are_in_pixels_and_the_report_says_so(a_bundle, tmp_path, capsys):
    path = make_picture(tmp_path / "a.png", make_pixels((150, 101)))
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME) == 0
    assert {item.name for item in (tmp_path / "out").iterdir()} == {"mask.png", "overview.png", "report.json"}
    report = _report(tmp_path / "out")
    marked = int((np.asarray(Image.open(tmp_path / "out" / "mask.png")) > 0).sum())
    assert report["area"]["unit"] == "pixels"
    assert report["area"]["labels"] == {"tumor": marked}
    assert sum(piece["pixels"] for piece in report["area"]["pieces"]) == marked
    assert report["geometry"]["spacing_mm"] is report["geometry"]["affine_ras"] is None
    assert report["volume_ml"] == {}
    assert any("no pixel spacing" in text for text in report["warnings"])
    assert report["model"]["name"] == "breast_ultrasound_lesion_segmentation"
    assert "simulated" not in report["statement"]
    assert report["run"]["settings"]["model_size"] == 96
    assert "model_spacing" not in report["run"]["settings"]
    printed = capsys.readouterr().out
    assert "pixels" in printed
    assert "mm" not in printed.replace("not in mm", "")


def test_with_a_spacing_areas_are_in_square_millimetres(a_bundle, tmp_path):
    path = make_dicom2d(
        tmp_path / "a.dcm", make_pixels((150, 101)), SequenceOfUltrasoundRegions=[make_region(0.02, 0.01)]
    )
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME, "--formats", "mask,nifti,probability") == 0
    report = _report(tmp_path / "out")
    marked = int((np.asarray(Image.open(tmp_path / "out" / "mask.png")) > 0).sum())
    assert report["area"]["unit"] == "mm2"
    assert report["area"]["labels"]["tumor"] == pytest.approx(marked * 0.02)
    assert report["geometry"]["spacing_mm"] == pytest.approx([0.2, 0.1])
    image = nib.load(tmp_path / "out" / "labelmap.nii.gz")
    assert image.header["sform_code"] == image.header["qform_code"] == 0  # no place in a patient
    np.testing.assert_allclose(image.header.get_zooms()[:2], (0.2, 0.1), rtol=1e-5)
    assert {item["format"] for item in report["files"]} == {"mask", "nifti", "probability", "overview"}


def test_nifti_of_an_image_without_spacing_has_no_unit(a_bundle, tmp_path):
    path = make_picture(tmp_path / "a.png")
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME, "-f", "nifti") == 0
    image = nib.load(tmp_path / "out" / "labelmap.nii.gz")
    assert image.header.get_xyzt_units()[0] == "unknown"
    assert image.shape == (90, 70, 1)


def test_what_does_not_fit_the_model_is_refused_in_one_line_with_a_hint(a_bundle, tmp_path, capsys):
    picture, volume = make_picture(tmp_path / "a.png"), make_nifti(tmp_path / "a.nii.gz")
    ultrasound = make_dicom2d(tmp_path / "us" / "a.dcm")
    cases = (
        (picture, (), 1, "--model ultrasound"),
        (ultrasound, (), 1, "--model ultrasound"),
        (volume, ("--model", NAME), 1, "leave out --model"),
        (picture, ("--model", "mammography"), 2, "breast-ct, tissues, ultrasound"),
        (picture, ("--model", NAME, "--all"), 2, "--all"),
        (picture, ("--model", NAME, "-f", "seg"), 2, "for a 2-D image"),
        (volume, ("-f", "mask"), 2, "formats"),
    )
    for path, options, code, text in cases:
        assert _segment(a_bundle, path, tmp_path / "out", *options) == code, (path, options)
        error = capsys.readouterr().err
        assert text in error
        assert error.strip().count("\n") == 0
        assert not (tmp_path / "out").exists()


def test_a_result_is_kept_unless_asked(a_bundle, tmp_path, capsys):
    path = make_picture(tmp_path / "a.png")
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME) == 0
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME) == 1
    assert "holds a result already" in capsys.readouterr().err
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME, "--overwrite", "--progress", "json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "done"
    (tmp_path / "out" / "labelmap.nii.gz").write_bytes(b"edited")
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME, "--overwrite") == 0
    assert "warning: labelmap.nii.gz was changed since" in capsys.readouterr().out
    assert (tmp_path / "out" / "labelmap.nii.gz").read_bytes() == b"edited"


def test_missing_weights_name_the_file_and_the_way_to_get_them(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    (bundle / "models" / "ultrasound.pt").unlink()
    with pytest.raises(WeightsError, match=r"ultrasound\.pt") as caught:
        open_bundle(bundle, TORCH, model=NAME)
    assert "lightunet train" in caught.value.hint
    assert open_bundle(bundle, TORCH).settings["model_spacing"]  # the CT model does not need them
    with pytest.raises((BundleError, ValueError), match="expected one of"):
        weights_path(bundle, "mammography")


def test_the_loader_keeps_pixels_in_place_and_masks_must_fit(tmp_path):
    path = make_picture(tmp_path / "a.png")
    mask = make_picture(tmp_path / "m.png", make_mask() * 255)
    case = LoadImage2Dd("image", label_keys="label")({"image": path, "label": str(mask)})
    assert case["image"].shape == (1, 90, 70, 1)
    np.testing.assert_array_equal(case["image"].numpy()[0, :, :, 0].T, make_pixels())
    np.testing.assert_array_equal(case["label"].numpy()[0, :, :, 0].T, make_mask())
    again = LoadImage2Dd("image")({"image": case["image"]})
    assert again["image"] is case["image"]
    with pytest.raises(UnsupportedImageError, match="91 x 70"):
        load_mask2d(make_picture(tmp_path / "n.png", make_mask((91, 70))), case["image"])
    with pytest.raises(UnsupportedImageError, match="different values"):
        load_mask2d(path, case["image"])
    with pytest.raises(UnsupportedImageError, match="every pixel"):
        load_image2d(make_picture(tmp_path / "flat.png", np.full((30, 30), 7, np.uint8)))


def test_a_picture_of_one_value_but_for_a_few_pixels_is_refused(tmp_path):
    pixels = np.full((100, 100), 7, np.uint8)
    pixels[:4, :10] = 200  # 0.4 %
    with pytest.raises(UnsupportedImageError, match="nearly every pixel has the value 7") as caught:
        load_image2d(make_picture(tmp_path / "dot.png", pixels))
    assert caught.value.reason == "flat"
    pixels[:10, :10] = 200
    assert load_image2d(make_picture(tmp_path / "disc.png", pixels)).max() == 200


@pytest.mark.parametrize("size", [(90, 70), (300, 200), (64, 201)])
def test_model_size_and_back_lands_on_the_same_pixels(tmp_path, size):
    path = make_picture(tmp_path / "a.png", make_mask(size) * 255)
    case = ToModelSized("image", size=128, smallest=16)(LoadImage2Dd("image")({"image": path}))
    assert max(case["image"].shape[1:3]) == 128
    foreground = case["image"].as_tensor() / 255 * 2 - 1
    case["pred"] = torch.cat([-foreground, foreground])
    back = RestoreLabelMapd("pred", reference="image")(case)["pred"].numpy()[0, :, :, 0].T
    wrong = np.count_nonzero(back != make_mask(size))
    assert wrong <= 0.04 * make_mask(size).sum()
    rows, columns = np.nonzero(back)
    truth = np.nonzero(make_mask(size))
    assert abs(rows.mean() - truth[0].mean()) < 0.3
    assert abs(columns.mean() - truth[1].mean()) < 0.3


def test_small_pieces_go_by_their_share_of_the_image(tmp_path):
    image = load_image2d(make_picture(tmp_path / "a.png"))
    labels = torch.zeros(image.shape, dtype=torch.uint8)
    labels[0, 10:30, 10:30] = 1
    labels[0, 60:62, 50:52] = 1
    image.set_array(labels)
    kept = RemoveSmallPiecesd("pred", minimum_share=0.002)({"pred": image})["pred"]
    assert int(kept.sum()) == 400


def test_areas_list_the_largest_piece_first(a_predictor, tmp_path):
    areas = measure_areas(a_predictor.segment(make_picture(tmp_path / "a.png", make_pixels((150, 101)))).segmentation)
    sizes = [piece["pixels"] for piece in areas["pieces"]]
    assert sizes == sorted(sizes, reverse=True)
    assert [piece["number"] for piece in areas["pieces"]] == list(range(1, len(sizes) + 1))


@pytest.mark.slow
def test_a_training_on_pictures_writes_a_bundle_that_segments_pictures(a_bundle, tmp_path, capsys):
    cases = []
    for index in range(4):
        make_picture(tmp_path / "images" / f"{index}.png", make_pixels(seed=index))
        make_picture(tmp_path / "masks" / f"{index}.png", make_mask() * 255)
        cases.append({"image": f"images/{index}.png", "label": f"masks/{index}.png", "fold": index % 2})
    (tmp_path / "datalist.json").write_text(json.dumps({"training": cases}))
    assert main([
        "train", "--model", NAME, "--data", str(tmp_path / "datalist.json"), "--fold", "0", "--bundle", str(a_bundle),
        "-o", str(tmp_path / "new"), "--max-epochs", "1", "--val-interval", "1", "--device", "cpu",
        "--set", "volumes_per_batch=2", "--set", "precise_batch_norm_batches=1", "--set", "tensorboard=false",
        "--set", "fewest_cases=1",
        "--progress", "none",
    ]) == 0  # fmt: skip
    assert f"--model {NAME}" in capsys.readouterr().out
    new = tmp_path / "new" / "bundle"
    assert (new / "models" / "model.pt").read_bytes() == (a_bundle / "models" / "model.pt").read_bytes()
    parts = open_bundle(new, TORCH, model=NAME)
    assert parts.metadata["version"] == open_bundle(a_bundle, TORCH, model=NAME).metadata["version"] + "+new"
    assert _segment(new, tmp_path / "images" / "0.png", tmp_path / "out", "--model", NAME) == 0


@pytest.mark.parametrize("name", ["mask.png", "overview.png"])
def test_a_result_never_replaces_the_image_it_is_made_from(a_bundle, tmp_path, capsys, name):
    path = make_picture(tmp_path / "case" / name, make_pixels((150, 101)))
    before = path.read_bytes()
    assert _segment(a_bundle, path, path.parent, "--model", NAME, "--overwrite") == 1
    assert f"{name} of its result would replace it" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [name]


def test_the_bundle_command_replaces_no_reference_beside_the_image(a_bundle, tmp_path):
    folder = tmp_path / "in"
    make_picture(folder / "b (1).png", make_pixels((150, 101)))
    reference = folder / "b (1)_mask.png"
    make_picture(reference, make_pixels((150, 101)))
    before = reference.read_bytes()
    with pytest.raises(RuntimeError) as caught:
        _by_bundle_command(a_bundle, folder, folder)
    assert "b (1)_mask.png: is there already, beside the image" in str(find_own_error(caught.value))
    assert reference.read_bytes() == before


def test_images_of_one_stem_get_masks_that_name_them(a_bundle, tmp_path):
    sizes = {"a.jpg": (150, 101), "a.png": (120, 90), "a_2.png": (100, 80)}
    for name, size in sizes.items():
        make_picture(tmp_path / "in" / name, make_pixels(size))
    _by_bundle_command(a_bundle, tmp_path / "in", tmp_path / "out")
    masks = {path.name: read_image2d(path).pixels.shape for path in (tmp_path / "out").iterdir()}
    expected = {"a_mask.png": "a.jpg", "a.png_mask.png": "a.png", "a_2_mask.png": "a_2.png"}
    assert masks == {mask: read_image2d(tmp_path / "in" / name).pixels.shape for mask, name in expected.items()}


@pytest.mark.parametrize("option", ["--keep-empty-frames", "--deterministic-uids"])
def test_options_of_dicom_objects_are_refused_for_pictures(a_bundle, tmp_path, capsys, option):
    path = make_picture(tmp_path / "a.png")
    assert _segment(a_bundle, path, tmp_path / "out", "--model", NAME, option) == 2
    assert option in capsys.readouterr().err


def test_an_image_in_memory_gives_what_its_file_gives(a_predictor, tmp_path):
    pixels = make_pixels((150, 101))
    path = make_picture(tmp_path / "a.png", pixels)
    by_file = a_predictor.segment(path)
    array = pixels.T[None, ..., None]
    for image in (load_image2d(path), array, torch.as_tensor(array), MetaTensor(torch.as_tensor(array))):
        in_memory = a_predictor.segment(image)
        np.testing.assert_array_equal(in_memory.segmentation.label_map, by_file.segmentation.label_map)
        assert in_memory.segmentation.is_picture
        assert not in_memory.segmentation.has_spacing
        assert any("no pixel spacing" in text for text in in_memory.warnings)
    scaled = MetaTensor(torch.as_tensor(array), affine=torch.diag(torch.tensor([-0.2, -0.1, 1.0, 1.0])))
    segmentation = a_predictor.segment(scaled).segmentation
    np.testing.assert_array_equal(segmentation.label_map, by_file.segmentation.label_map)
    assert segmentation.has_spacing
    assert segmentation.spacing[:2] == pytest.approx((0.2, 0.1))


def _with_nan(pixels):
    pixels = torch.as_tensor(pixels).float()
    pixels[0, 7, 5, 0] = pixels[0, 8, 5, 0] = float("nan")
    return pixels


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (_with_nan, UnsupportedImageError, "2 of 15150 pixels are no finite numbers, the first in column 7, row 5"),
        (lambda x: MetaTensor(_with_nan(x)), UnsupportedImageError, "no finite numbers"),
        (lambda x: x[0, :, :, 0], UnsupportedImageError, r"shape \(150, 101\), expected \(1, X, Y, 1\)"),
        (lambda x: x[:, :9], UnsupportedImageError, "9 x 101 pixels, expected at least 16"),
        (lambda x: np.zeros_like(x), UnsupportedImageError, "every pixel has the value 0"),
        (lambda x: MetaTensor(torch.as_tensor(x), affine=torch.eye(3)), GeometryError, r"expected \(4, 4\)"),
        (lambda x: MetaTensor(torch.as_tensor(x), affine=torch.eye(4) * 9), GeometryError, "9 x 9 mm"),
    ],
)
def test_an_image_in_memory_that_is_none_is_refused(a_predictor, change, error, text):
    with pytest.raises(error, match=text):
        a_predictor.segment(change(make_pixels((150, 101)).T[None, ..., None]))
