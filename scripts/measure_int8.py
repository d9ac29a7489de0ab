"""Does the network keep its accuracy in INT8? Scores it beside float32.

    python scripts/measure_int8.py --data datalist.json --section tuning [--write]

The ranges come from slices of volumes simulated for this, by the recipe of the training sets. Every labelled volume of
the datalist is then segmented both ways, and the lesions are scored as ``lightunet evaluate`` does. With ``--write``
the ranges go into the bundle (``configs/int8.json``), where ``--precision int8`` finds them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightunet_monai.cli.evaluate import read_case
from lightunet_monai.evaluation import score_case, summarize
from lightunet_monai.inference import Predictor
from lightunet_monai.inference.bundle_files import INT8_FILE, find_bundle
from lightunet_monai.inference.engines import Engine, choose_engine
from lightunet_monai.inference.int8 import measure_ranges
from lightunet_monai.options import RunOptions
from lightunet_monai.transforms import list_labelled_cases

SEED = 990_000
"""Of the first calibration volume; no training or test set uses it."""

SLICES = 24
"""Slices of each calibration volume whose values set the ranges."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="datalist of labelled volumes the model has not seen")
    parser.add_argument("--section", default="tuning")
    parser.add_argument("--volumes", type=int, help="score only the first N")
    parser.add_argument("--calibration", type=int, default=8, help="volumes simulated for the ranges (8)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bundle", type=Path, help="folder of the bundle (the shipped one)")
    parser.add_argument("--write", action="store_true", help="write configs/int8.json of the bundle")
    arguments = parser.parse_args()

    root = find_bundle(arguments.bundle)
    options = RunOptions(engine="onnxruntime", threads=arguments.threads)
    predictor = Predictor(root, options)
    batches = list(_calibration_batches(predictor, arguments.calibration))
    slices = sum(len(batch) for batch in batches)
    print(f"{slices} slices of {arguments.calibration} simulated volumes set the ranges.", flush=True)
    ranges = measure_ranges(predictor.parts.network, batches)
    network, device = predictor.parts.network, predictor.parts.device
    int8 = RunOptions(engine="onnxruntime", precision="int8", threads=arguments.threads)
    engines = {
        "float32": predictor.engine,
        "int8": choose_engine(network, device, int8, int8_ranges=ranges),
    }
    seconds = _seconds_a_slice(engines, batches[0])
    cases = list_labelled_cases(arguments.data, arguments.section)[: arguments.volumes]
    scores: dict[str, list[Any]] = {name: [] for name in engines}
    agreements = []
    for case in cases:
        volume, reference = read_case(case)
        masks = {}
        for name, engine in engines.items():
            predictor.engine = engine
            result = predictor.segment(volume).segmentation
            masks[name] = result.label_map > 0
            scores[name].append(score_case(Path(case["image"]).name, masks[name], reference, result.voxel_volume_ml))
        total = np.count_nonzero(masks["float32"]) + np.count_nonzero(masks["int8"])
        if total:
            agreements.append(2 * np.count_nonzero(masks["float32"] & masks["int8"]) / total)
    print("| precision | seconds a slice | times faster | mean Dice, all lesions | sensitivity | false positives |")
    print("|---|---|---|---|---|---|")
    for name, found in scores.items():
        summary = summarize(found)
        every = summary.groups[-1]
        print(
            f"| {name} | {seconds[name]:.3f} | {seconds['float32'] / seconds[name]:.2f} | {every.dice_mean:.4f} | "
            f"{every.sensitivity:.3f} | {summary.false_positives_per_case:.2f} |"
        )
    if agreements:
        print(f"Dice of the two label maps: mean {statistics.fmean(agreements):.4f}, lowest {min(agreements):.4f}.")
    if arguments.write:
        content = {
            "weights_sha256": predictor.parts.weights_sha256,
            "source": f"{slices} slices of {arguments.calibration} simulated volumes, seeds from {SEED}",
            "ranges": {name: [round(value, 4) for value in values] for name, values in ranges.items()},
        }
        path = root / "configs" / INT8_FILE
        path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        print(f"written: {path}")
    return 0


def _calibration_batches(predictor: Predictor, volumes: int) -> Iterator[Tensor]:
    """Batches (B, C, H, W) as the network gets them for a study."""
    from monai.data import MetaTensor

    from lightunet_monai.simulation import SimulationSettings, simulate_case

    for index in range(volumes):
        case = simulate_case(SEED + index, settings=SimulationSettings(max_voxels=112))
        voxels = torch.from_numpy(case.volume_hu.astype(np.float32))[None]
        image = MetaTensor(voxels, affine=torch.as_tensor(case.affine))
        seen: list[Tensor] = []

        def watch(x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x.clone())
            return predictor.engine(x)

        with torch.inference_mode():
            volume = predictor.parts.preprocessing({"image": image})["image"].as_tensor()[None]
            predictor.parts.inferer(volume, watch)
        taken = 0
        for batch in seen[:: max(1, len(seen) * len(seen[0]) // SLICES)]:
            yield batch
            taken += len(batch)
            if taken >= SLICES:
                break


def _seconds_a_slice(engines: dict[str, Engine], x: Tensor, runs: int = 9) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(runs + 1):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine(x)
            if turn:
                taken[name].append((time.perf_counter() - start) / len(x))
    return {name: statistics.median(values) for name, values in taken.items()}


if __name__ == "__main__":
    sys.exit(main())
