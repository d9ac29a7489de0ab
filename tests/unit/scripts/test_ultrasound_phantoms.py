"""Simulated ultrasound images: the same for a seed, lesions where the mask says, a datalist that training reads."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from ultrasound_phantoms import VALIDATION, draw_image, main

from lightunet_monai.transforms import list_labelled_cases

WIDTH = 96


def drawn(number):
    return draw_image(np.random.default_rng([3, number]), WIDTH)


@pytest.fixture(scope="module")
def images():
    return [drawn(number) for number in range(60)]


def test_a_seed_gives_the_same_image_and_another_number_another(images):
    again, lesions = drawn(0)
    np.testing.assert_array_equal(again, images[0][0])
    np.testing.assert_array_equal(lesions, images[0][1])
    assert again.shape != images[1][0].shape or (again != images[1][0]).any()


def test_images_have_the_width_asked_for_and_use_the_range(images):
    for image, lesions in images:
        assert image.dtype == np.uint8
        assert image.shape == lesions.shape
        assert image.shape[1] == WIDTH
        assert 0.5 * WIDTH <= image.shape[0] <= 1.15 * WIDTH
        assert np.percentile(image, 99) > 150
        assert np.percentile(image, 99) - np.percentile(image, 5) > 100


def test_most_images_have_a_lesion_and_most_lesions_are_darker_than_what_is_around_them(images):
    with_lesion = [(image.astype(float), lesions) for image, lesions in images if lesions.any()]
    assert 40 <= len(with_lesion) <= 58
    darker = 0
    for image, lesions in with_lesion:
        ring = ndimage.binary_dilation(lesions, iterations=5) & ~ndimage.binary_dilation(lesions)
        darker += image[lesions].mean() < image[ring].mean()
    assert darker >= 0.85 * len(with_lesion)
    shares = [lesions.mean() for _, lesions in with_lesion]
    assert min(shares) > 0.0005
    assert max(shares) < 0.6


def test_deep_tissue_is_darker_than_shallow(images):
    thirds = np.array([[part.mean() for part in np.array_split(image, 3)] for image, _ in images]).mean(axis=0)
    assert thirds[0] > thirds[1] > thirds[2]


def test_files_are_listed_for_training_and_do_not_depend_on_the_number_of_processes(tmp_path):
    for jobs in ("1", "2"):
        words = ["-n", "40", "--seed", "4", "--width", "64", "--jobs", jobs, "-o", str(tmp_path / jobs)]
        assert main(words) == 0
    training = list_labelled_cases(tmp_path / "1" / "datalist.json", "training")
    held_out = list_labelled_cases(tmp_path / "1" / "datalist.json", "validation")
    assert (len(training), len(held_out)) == (20, 20)  # no more than half are held out
    assert VALIDATION > 20
    for case in (*training, *held_out):
        image, mask = (np.asarray(Image.open(case[key])) for key in ("image", "label"))
        assert image.shape == mask.shape
        assert set(np.unique(mask)) <= {0, 255}
        for key in ("image", "label"):
            other = case[key].replace(str(tmp_path / "1"), str(tmp_path / "2"))
            np.testing.assert_array_equal(np.asarray(Image.open(case[key])), np.asarray(Image.open(other)))


def test_numbers_that_make_no_set_are_refused(tmp_path, capsys):
    for words in (["-n", "1"], ["--width", "10"], ["--jobs", "0"]):
        with pytest.raises(SystemExit, match="2"):
            main([*words, "-o", str(tmp_path / "out")])
        assert "expected" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
