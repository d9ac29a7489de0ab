"""Slabs written into their places; `tests/unit/inference/test_gpu.py` has the same from a GPU."""

import pytest
import torch

from lightunet_monai.transforms.slab_download import SlabDownload


def test_slabs_land_where_they_belong_in_the_type_of_the_target():
    target = torch.zeros(7, 4, 5, dtype=torch.uint8)
    planes = torch.arange(7)[:, None].expand(7, 12).reshape(7, 3, 4) > 2
    with SlabDownload() as download:
        for start in range(0, 7, 2):
            download.put(target[start : start + 2, 1:4, 0:4], planes[start : start + 2])
    assert target.dtype == torch.uint8
    torch.testing.assert_close(target[:, 1:4, 0:4] > 0, planes)
    assert int(target.sum()) == int(planes.sum())


def test_an_error_inside_goes_on_as_it_is():
    with pytest.raises(ValueError, match="of the computation"), SlabDownload():
        raise ValueError("of the computation")
