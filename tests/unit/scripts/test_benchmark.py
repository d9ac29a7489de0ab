"""The benchmark: how often a way runs, what it writes on the page, and nnU-Net's predictor around our network."""

import argparse
import sys
import time

import benchmark
import pytest
import torch
from benchmark_figures import Measured, draw
from benchmark_network import mean_over, measure, stacks
from benchmark_nnunet import nnunet_slices, open_nnunet
from PIL import Image

from tests.builders.bundle import random_network

MOST_BYTES = 100_000
PARTS = {
    "windows": Measured(["| way |"], {"seconds": {"ours: exact": 1.5, "MONAI windows": 30.0, "nnU-Net": 31.25}}),
    "scaling": Measured(
        ["Seconds = ..."], {"tissue": [24e3, 61e3, 98e3], "seconds": [2.9, 7.0, 11.0], "slope": 1.1e-4, "offset": 0.2}
    ),
}


def test_a_slow_way_runs_once_and_a_quick_one_is_warmed_up_and_repeated():
    calls = []

    def way(name, seconds):
        calls.append(name)
        time.sleep(seconds)
        return name

    timings, answers = measure(
        {"slow": lambda: way("slow", 0.06), "quick": lambda: way("quick", 0)}, runs=3, slow_seconds=0.03
    )
    assert calls == ["slow", *["quick"] * 4]
    assert {name: len(timing.wall) for name, timing in timings.items()} == {"slow": 1, "quick": 3}
    assert timings["slow"].median >= 0.06
    assert answers == {"slow": "slow", "quick": "quick"}


def test_the_picture_is_small(tmp_path):
    draw(PARTS, tmp_path / "images" / "picture.png", threads=2)
    (path,) = (tmp_path / "images").iterdir()
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as picture:
        assert picture.size == (990, 360)


@pytest.mark.parametrize("names", [["windows"], ["windows", "scaling"]])
def test_only_what_lies_between_the_marks_is_written_and_the_picture_when_it_is_complete(tmp_path, monkeypatch, names):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Kept\n\n{benchmark.BEGIN}\n\nold\n\n{benchmark.END}\nkept too\n")
    monkeypatch.setattr(benchmark, "PAGE", page)
    arguments = argparse.Namespace(quick=True, threads=2, runs=1, note="A note.")
    benchmark._write_page({name: PARTS[name] for name in names}, arguments, 180.0)
    text = page.read_text()
    assert text.startswith(f"# Kept\n\n{benchmark.BEGIN}\n\nMeasured with `scripts/benchmark.py all --quick`")
    assert text.endswith(f"{PARTS[names[-1]].lines[0]}\n\n{benchmark.END}\nkept too\n")
    assert "old" not in text
    assert "in 3 minutes. One run after a warm-up" in text
    is_complete = "scaling" in names
    assert (f"]({benchmark.PICTURE})" in text) is is_complete
    assert (tmp_path / benchmark.PICTURE).exists() is is_complete


def test_nnunet_is_left_out_with_a_line_where_it_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    assert open_nnunet(random_network(), (16, 16), 2, torch.device("cpu")) is None
    assert capsys.readouterr().out.startswith("left out: nnU-Net: ")


@pytest.mark.filterwarnings("ignore")  # of the package and what it imports
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nnunet_gives_the_logits_of_the_network_where_a_window_holds_the_slice(axis):
    pytest.importorskip("nnunetv2")
    network = random_network()
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    predictor = open_nnunet(network, (16, 16), 2, torch.device("cpu"))
    with torch.inference_mode():
        expected = network(stacks(image, axis, 1)).movedim(0, 1).movedim(1, 1 + axis)
        found = mean_over([axis], lambda axis: nnunet_slices(stacks(image, axis, 1), predictor))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)  # its sums are in half precision
