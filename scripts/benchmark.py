"""Time and peak memory of whole commands, by step.

    .venv/bin/python scripts/benchmark.py segment            512 x 512 x 320 at 0.3 mm, simulated
    .venv/bin/python scripts/benchmark.py windows            exact windows beside MONAI's blended ones, same network

Each figure is the median of several runs after one warm-up. Machines differ and share their cores: compare ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE = (512, 512, 320)
SPACING_MM = 0.3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("segment", "windows"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    return {"segment": _segment, "windows": _windows}[arguments.what](arguments)


def _segment(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        study = _study(Path(folder))
        runs = []
        for index in range(arguments.runs + 1):
            out = Path(folder) / f"out{index}"
            command = [sys.executable, "-m", "lightunet_monai", "segment", str(study), "-o", str(out)]
            start = time.perf_counter()
            process = subprocess.Popen([*command, "--threads", str(arguments.threads)], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            if status:
                return 1
            seconds = json.loads((out / "report.json").read_text())["seconds"]
            seconds["write, start-up"] = wall - sum(seconds.values())
            if index:  # the first run warms the disk cache
                runs.append({**seconds, "whole command": wall, "peak memory, MB": usage.ru_maxrss / 1024})
    print(f"lightunet segment, {' x '.join(map(str, SHAPE))} voxels at {SPACING_MM} mm, {arguments.threads} threads")
    print("| step | seconds, median | lowest | highest |\n|---|---|---|---|")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    return 0


def _study(folder: Path) -> Path:
    """A simulated breast on a grid of the benchmark's size, interpolated from a coarser one: speed only."""
    import nibabel as nib
    import numpy as np
    from scipy import ndimage

    from lightunet_monai.simulation import SimulationSettings, simulate_case

    case = simulate_case(11, settings=SimulationSettings(spacing=(0.6, 0.6), max_voxels=256))
    factors = [n / m for n, m in zip(SHAPE, case.volume_hu.shape, strict=True)]
    volume = ndimage.zoom(case.volume_hu.astype(np.float32), factors, order=1)
    path = folder / "study.nii.gz"
    nib.save(nib.Nifti1Image(volume.astype(np.int16), np.diag([SPACING_MM] * 3 + [1.0])), path)
    return path


def _windows(arguments: argparse.Namespace) -> int:
    import numpy as np
    import torch

    from lightunet_monai.inference import Predictor
    from lightunet_monai.inferers import SliceInferer
    from lightunet_monai.simulation import SimulationSettings, simulate_case

    torch.set_num_threads(arguments.threads)
    predictor = Predictor()
    case = simulate_case(11, settings=SimulationSettings(spacing=(0.6, 0.6), max_voxels=256))
    from monai.data import MetaTensor

    volume = MetaTensor(torch.from_numpy(case.volume_hu.astype(np.float32))[None], affine=torch.as_tensor(case.affine))
    image = predictor.parts.preprocessing({"image": volume})["image"].as_tensor()[None]
    common = {"neighbours": 1, "sw_batch_size": 4}
    ways = {
        "exact, tuned engine": (SliceInferer((512, 512), **common), predictor.engine),
        "exact, plain network": (SliceInferer((512, 512), **common), predictor.parts.network),
        "exact windows of 160, plain network": (SliceInferer((160, 160), **common), predictor.parts.network),
        "blended 96, overlap 0.25, plain network": (
            SliceInferer((96, 96), overlap=0.25, **common),
            predictor.parts.network,
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    labels = {}
    with torch.inference_mode():
        for index in range(arguments.runs + 1):
            for name, (inferer, network) in ways.items():
                start = time.perf_counter()
                logits = inferer(image, network)
                if index:
                    seconds[name].append(time.perf_counter() - start)
                labels[name] = logits[0, 1] > logits[0, 0]
    reference = labels["exact, plain network"]
    base = statistics.median(seconds["exact, plain network"])
    print(f"{' x '.join(map(str, image.shape[2:]))} voxels on the model's grid, {arguments.threads} threads")
    print("| way | seconds, median | times the plain network | labels that differ |\n|---|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.2f} | {median / base:.2f} | {int((labels[name] != reference).sum())} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
