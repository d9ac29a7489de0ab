"""Slices, neighbours and windows: exact whatever the window."""

import pytest
import torch

from lightunet_monai.errors import UsageError
from lightunet_monai.inferers import SliceInferer
from lightunet_monai.inferers.tiling import HALO, STRIDE, plan_spans
from lightunet_monai.networks import LightUNet


@pytest.fixture(scope="module")
def a_network():
    torch.manual_seed(3)
    network = LightUNet(widths=(8, 16, 32, 64)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics unlike the initial ones, as after training
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2.0)
    return network


@pytest.fixture(scope="module")
def a_volume():
    volume = torch.rand(1, 1, 170, 147, 4, generator=torch.Generator().manual_seed(0))
    volume[:, :, :30] = 0
    volume[..., 3] = 0
    return volume


@pytest.mark.parametrize(
    ("start", "stop", "size", "window"), [(0, 250, 250, 136), (30, 203, 203, 160), (5, 9, 512, 128)]
)
def test_spans_keep_each_voxel_once_and_start_on_the_stride(start, stop, size, window):
    spans = plan_spans(start, stop, size, window)
    kept = [i for span in spans for i in range(span.keep_start, span.keep_stop)]
    assert len(kept) == len(set(kept))
    assert set(range(start, stop)) <= set(kept)
    for span in spans:
        assert span.read_start % STRIDE == 0
        assert span.read_stop - span.read_start <= window
        assert span.keep_start - span.read_start >= HALO or span.read_start == 0
        assert span.read_stop - span.keep_stop >= HALO or span.read_stop == size


def test_a_window_without_room_between_its_halos_is_refused_with_the_number_that_works():
    with pytest.raises(UsageError, match="120 voxels or more"):
        plan_spans(0, 500, 500, 112)


@pytest.mark.parametrize("halo", [60, 4, -8])
def test_a_halo_that_moves_windows_off_the_stride_is_refused(halo):
    with pytest.raises(UsageError, match=f"found {halo} voxels, expected a multiple of 8"):
        SliceInferer((512, 512), halo=halo)
    with pytest.raises(UsageError, match="multiple of 8"):
        plan_spans(0, 500, 500, 184, halo=halo)


@pytest.mark.parametrize("window", [(136, 136), (144, 512), (512, 128)])
@pytest.mark.parametrize("batch", [1, 3])
def test_labels_do_not_depend_on_window_or_batch(a_network, a_volume, window, batch):
    with torch.inference_mode():
        whole = SliceInferer((512, 512), sw_batch_size=4)(a_volume, a_network)
        parts = SliceInferer(window, sw_batch_size=batch)(a_volume, a_network)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    assert torch.equal(parts.argmax(1), whole.argmax(1))


def test_in_tissue_the_numbers_are_those_of_the_network_on_whole_slices(a_network, a_volume):
    slices = a_volume[0, 0].movedim(2, 0)
    with torch.inference_mode():
        logits = SliceInferer((512, 512))(a_volume, a_network)
        for k in range(3):
            expected = a_network(torch.stack([slices[max(k - 1, 0)], slices[k], slices[min(k + 1, 3)]])[None])
            torch.testing.assert_close(logits[0, :, 32:, :, k], expected[0, :, 32:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_may_run_along_any_axis(a_network, axis):
    volume = torch.rand(1, 1, 40, 40, 40, generator=torch.Generator().manual_seed(1))
    moved = volume[0, 0].movedim(axis, 2)[None, None].contiguous()
    with torch.inference_mode():
        along_axis = SliceInferer((512, 512), slice_axes=[axis])(volume, a_network)
        along_last = SliceInferer((512, 512))(moved, a_network)
    torch.testing.assert_close(along_axis.movedim(2 + axis, 4), along_last, rtol=0, atol=1e-5)


def test_several_directions_give_the_mean_of_their_logits_and_progress_that_only_grows(a_network, a_volume):
    told = []
    with torch.inference_mode():
        mean = SliceInferer((512, 512), slice_axes=[0, 1, 2])(
            a_volume, a_network, progress=lambda done, total: told.append(done / total)
        )
        parts = [SliceInferer((512, 512), slice_axes=[axis])(a_volume, a_network) for axis in (0, 1, 2)]
    torch.testing.assert_close(mean, torch.stack(parts).mean(dim=0), rtol=0, atol=1e-5)
    assert told == sorted(told)
    assert told[-1] == 1.0
    with pytest.raises(ValueError, match="slice_axes"):
        SliceInferer((512, 512), slice_axes=[])


def test_mirrored_passes_make_the_logits_those_of_both_sides(a_network, a_volume):
    shares = []
    plain, both = SliceInferer((512, 512)), SliceInferer((512, 512), mirrored_axes=(0, 1))
    one = SliceInferer((512, 512), mirrored_axes=(0,))
    with torch.inference_mode():
        found = both(a_volume, a_network, progress=lambda done, total: shares.append(done / total))
        other = [plain(a_volume.flip(2 + axis), a_network).flip(2 + axis) for axis in (0, 1)]
        torch.testing.assert_close(found, (plain(a_volume, a_network) + sum(other)) / 3, rtol=0, atol=1e-5)
        mirrored = one(a_volume.flip(2), a_network).flip(2)
        torch.testing.assert_close(mirrored, one(a_volume, a_network), rtol=0, atol=1e-5)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.fixture(scope="module")
def directions(a_network, a_volume):
    """Logits of the slices across axis 2 alone, and of all three directions."""
    with torch.inference_mode():
        return [SliceInferer((512, 512), slice_axes=axes)(a_volume, a_network) for axes in ([2], [2, 0, 1])]


def test_refined_logits_are_the_mean_near_candidates_and_those_of_the_first_direction_elsewhere(
    a_network, a_volume, directions
):
    first, mean = directions
    margin = first[0, 1] - first[0, 0]
    cut = float(margin.flatten().sort().values[-20])  # 19 candidates
    near = torch.zeros_like(margin, dtype=torch.bool)
    for x, y, z in (margin > cut).nonzero().tolist():
        near[max(0, x - 3) : x + 4, max(0, y - 3) : y + 4, max(0, z - 3) : z + 4] = True
    told = []
    with torch.inference_mode():
        inferer = SliceInferer((512, 512), slice_axes=[2, 0, 1], refine_logit=cut, refine_margin=3)
        refined = inferer(a_volume, a_network, progress=lambda done, total: told.append(done / total))
    assert 0.001 < near.float().mean() < 0.5
    torch.testing.assert_close(refined[:, :, near], mean[:, :, near], rtol=0, atol=1e-5)
    assert torch.equal(refined[:, :, ~near], first[:, :, ~near])
    assert not torch.allclose(first[:, :, near], mean[:, :, near], atol=1e-3)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_refining_everywhere_is_computing_every_direction_and_nowhere_is_the_first(a_network, a_volume, directions):
    first, mean = directions
    with torch.inference_mode():
        everywhere = SliceInferer((512, 512), slice_axes=[2, 0, 1], refine_logit=-100.0)(a_volume, a_network)
        told = []
        nowhere = SliceInferer((512, 512), slice_axes=[2, 0, 1], refine_logit=100.0)(
            a_volume, a_network, progress=lambda *now: told.append(now[0] / now[1])
        )
    tissue = (a_volume > 0).expand_as(mean)
    torch.testing.assert_close(everywhere[tissue], mean[tissue], rtol=0, atol=1e-5)
    assert torch.equal(nowhere, first)
    assert told[-1] == 1.0


def test_refining_computes_only_slices_near_candidates():
    seen = []

    def network(x):  # tumour where the input is 2
        seen.append(tuple(x.shape))
        tumour = torch.where(x[:, 1:2] > 1.5, 5.0, -5.0)
        return torch.cat([-tumour, tumour], dim=1)

    volume = torch.ones(1, 1, 40, 48, 56)
    volume[..., 20, 30, 10] = 2.0
    logits = SliceInferer((512, 512), slice_axes=[1, 0, 2], refine_logit=0.0, refine_margin=2, sw_batch_size=1)(
        volume, network
    )
    assert len(seen) == 48 + 5 + 5
    assert (logits[:, 1] > logits[:, 0]).nonzero().tolist() == [[0, 20, 30, 10]]


def test_air_is_not_computed_and_is_background(a_volume):
    seen = []

    def network(x):
        seen.append(tuple(x.shape))
        return torch.zeros(x.shape[0], 2, *x.shape[2:])

    volume = torch.zeros(1, 1, 300, 300, 20)
    volume[:, :, 100:110, 120:130, 8] = 1.0
    logits = SliceInferer((512, 512), sw_batch_size=4)(volume, network)
    assert sum(shape[0] for shape in seen) == 3  # the slice and its two neighbours
    assert all(shape[2] <= 16 + 2 * HALO and shape[3] <= 24 + 2 * HALO for shape in seen)
    assert (logits[:, 0] > logits[:, 1]).float().mean() > 0.99


def test_a_volume_of_air_gives_background_everywhere(a_network):
    with torch.inference_mode():
        logits = SliceInferer((64, 64))(torch.zeros(1, 1, 40, 30, 6), a_network)
    assert logits.shape == (1, 2, 40, 30, 6)
    assert (logits[:, 0] > logits[:, 1]).all()


def test_progress_counts_windows_up_to_all(a_network, a_volume):
    told = []
    with torch.inference_mode():
        SliceInferer((136, 512), sw_batch_size=2)(a_volume, a_network, progress=lambda *now: told.append(now))
    assert told[-1][0] == told[-1][1] == len(told)


def test_blended_windows_are_there_for_comparison(a_network, a_volume):
    with torch.inference_mode():
        exact = SliceInferer((512, 512))(a_volume, a_network)
        blended = SliceInferer((128, 128), overlap=0.5)(a_volume, a_network)
    assert blended.shape == exact.shape
    assert (blended - exact).abs()[:, :, 32:, :, :3].mean() < 0.1


def test_more_than_one_volume_at_once_is_refused(a_network):
    with pytest.raises(ValueError, match="expected one volume"):
        SliceInferer((64, 64))(torch.zeros(2, 1, 16, 16, 3), a_network)
