"""``lightunet train``: what may be changed for a training, and what belongs to the model."""

import json

import pytest

from lightunet_monai.cli import main
from tests.builders.bundle import tiny_bundle


@pytest.mark.parametrize("item", ["model_spacing=[2.5,2.5,2.5]", "skin_mm=0", "preprocessing#transforms#0#model=x"])
def test_what_the_model_does_to_a_volume_cannot_be_changed_for_the_training_alone(tmp_path, capsys, item):
    (tmp_path / "datalist.json").write_text(json.dumps({"training": []}))
    words = ["--data", str(tmp_path / "datalist.json"), "--bundle", str(tiny_bundle(tmp_path / "bundle"))]
    assert main(["train", *words, "-o", str(tmp_path / "new"), "--set", item]) == 2
    message = capsys.readouterr().err
    assert f"--set: found {item.partition('=')[0]}, expected an entry of train.json" in message
    assert "change it in a copy of the bundle" in message
    assert not (tmp_path / "new").exists()
