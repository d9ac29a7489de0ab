"""Prepared cases on disk: prepared once, anew where a file of them is damaged, and no half of one is left."""

import pytest
import torch
from monai.transforms import Compose, Lambdad

from lightunet_monai.errors import OutputError
from lightunet_monai.training import CaseCache


def _cache(folder, prepared):
    def prepare(x):
        prepared.append(x)
        return torch.full((1, 64), float(x))

    return CaseCache([{"image": 7}], Compose([Lambdad("image", prepare)]), folder, hash_func=lambda case: b"case")


def test_a_case_is_prepared_once(tmp_path):
    prepared = []
    for _ in range(2):
        assert torch.equal(_cache(tmp_path, prepared)[0]["image"], torch.full((1, 64), 7.0))
    assert prepared == [7]
    assert [path.name for path in tmp_path.iterdir()] == ["case.pt"]


@pytest.mark.parametrize("kept", [0, 10, 0.5])
def test_a_prepared_case_that_was_cut_off_is_prepared_anew(tmp_path, caplog, kept):
    prepared = []
    _cache(tmp_path, prepared)[0]
    whole = (tmp_path / "case.pt").read_bytes()
    (tmp_path / "case.pt").write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    assert torch.equal(_cache(tmp_path, prepared)[0]["image"], torch.full((1, 64), 7.0))
    assert prepared == [7, 7]
    assert "case.pt: cannot be read, the case is prepared anew" in caplog.text
    assert torch.load(tmp_path / "case.pt", weights_only=True)["image"][0, 0] == 7


def test_a_prepared_case_without_room_on_the_disk_is_an_error_of_ours_and_leaves_nothing(tmp_path, monkeypatch):
    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        _cache(tmp_path, [])[0]
    assert "Make room" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
