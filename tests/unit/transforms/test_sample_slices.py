"""Training windows: where they are cut, what they hold."""

import torch

from lightunet_monai.transforms import RandSampleSlicesd


def _volume():
    """Tissue of 0.1 in the middle, one bright spot, one lesion of two voxels; each voxel has its own last digits."""
    image = torch.zeros(1, 20, 24, 28)
    image[:, 4:16, 4:20, 4:24] = 0.1
    image[0, 6:9, 6:9, 6:9] = 0.8
    image += (image > 0) * torch.arange(image.numel()).reshape(image.shape) * 1e-6
    label = torch.zeros_like(image)
    label[0, 12, 15, 20:22] = 1
    return {"image": image, "label": label}


def _samples(seed=0, count=60, **options):
    options = {"roi_size": (8, 8), "num_samples": count, "slice_axes": (0, 1, 2), **options}
    return RandSampleSlicesd(**options).set_random_state(seed)(_volume())


def test_a_lesion_is_in_every_window_drawn_for_it():
    assert all(sample["label"].any() for sample in _samples(lesion_share=1.0))


def test_bright_tissue_is_in_windows_drawn_for_it_far_more_often_than_in_others():
    options = {"lesion_share": 0.0, "bright_draws": 1000}  # one of which is in the spot as good as always
    by_chance, on_purpose = (
        sum(bool((sample["image"] > 0.5).any()) for sample in _samples(**options, bright_share=share))
        for share in (0.0, 1.0)
    )
    assert on_purpose > 0.9 * 60
    assert by_chance < 0.5 * 60


def test_a_margin_adds_surroundings_and_leaves_the_middle_as_it_was():
    for wide, narrow in zip(_samples(margin=5, neighbours=2), _samples(neighbours=2), strict=True):
        assert wide["image"].shape == (5, 18, 18)
        assert wide["label"].shape == (1, 18, 18)
        for key in ("image", "label"):
            assert torch.equal(wide[key][:, 5:13, 5:13], narrow[key])


def test_what_a_margin_shows_is_the_volume_and_air_outside_of_it():
    image = _volume()["image"][0]
    for sample in _samples(margin=30, roi_size=(4, 4), neighbours=0, lesion_share=0.0):
        inside = sample["image"][0]
        values = inside[inside > 0]
        assert len(values) == values.unique().numel()
        assert torch.isin(values, image).all()
        slices = [plane for axis in range(3) for plane in image.unbind(axis)]
        assert any(values.sort().values.equal(plane[plane > 0].sort().values) for plane in slices)


def test_an_empty_volume_gives_empty_windows():
    empty = {"image": torch.zeros(1, 6, 5, 4), "label": torch.zeros(1, 6, 5, 4)}
    for bright in (0.0, 1.0):
        samples = RandSampleSlicesd((8, 8), 4, slice_axes=(0, 1, 2), bright_share=bright).set_random_state(0)(empty)
        assert all(sample["image"].shape == (3, 8, 8) and not sample["image"].any() for sample in samples)
