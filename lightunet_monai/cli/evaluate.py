"""``lightunet evaluate``: the model on labelled cases it has not seen."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .progress import choose_reporter
from .run_options import add_run_options, run_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("--data", type=Path, required=True, metavar="DATALIST", help="datalist.json with references")
    parser.add_argument("--section", default="test", help="section of the datalist (test)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="also write the figures as JSON")
    parser.add_argument(
        "--thresholds",
        metavar="P,...",
        help="several operating thresholds: a free-response curve from one inference a case",
    )
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines"
    )
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score every case and print the table."""
    from ..evaluation import score_case, summarize
    from ..inference import Predictor
    from ..transforms import list_labelled_cases

    tell = choose_reporter(arguments.progress)
    cases = list_labelled_cases(arguments.data, arguments.section)
    predictor = Predictor(arguments.bundle, run_options(arguments), threshold=arguments.threshold)
    thresholds: list[float | None] = (
        [float(t) for t in arguments.thresholds.split(",")] if arguments.thresholds else [None]
    )
    scores: dict[float | None, list[Any]] = {threshold: [] for threshold in thresholds}
    for index, case in enumerate(cases):
        tell("infer", index / len(cases))
        reference, predictions, voxel_volume_ml = _predict(predictor, case, thresholds)
        for threshold, prediction in predictions:
            scores[threshold].append(score_case(Path(case["image"]).name, prediction, reference, voxel_volume_ml))
    tell("write", 1.0)
    summaries = {threshold: summarize(found) for threshold, found in scores.items()}
    for threshold, summary in summaries.items():
        if threshold is not None:
            print(f"\nthreshold {threshold:g}\n")
        print(summary.to_text())
    if arguments.output:
        _write(arguments.output, summaries, predictor)
    return 0


def _predict(predictor: Any, case: dict[str, Any], thresholds: list[float | None]) -> tuple[Any, Iterator[Any], float]:
    volume, reference = read_case(case)
    result = predictor.segment(volume, with_probability=thresholds != [None]).segmentation
    masks = (
        (threshold, result.label_map > 0 if threshold is None else cut_at(predictor, result, threshold))
        for threshold in thresholds
    )
    return reference, masks, result.voxel_volume_ml


def read_case(case: dict[str, Any]) -> tuple[Any, Any]:
    """Load one entry of a datalist: volume (1, X, Y, Z) in Hounsfield units, reference mask (X, Y, Z)."""
    from ..inputs import choose_series, discover_sources, load_volume
    from ..transforms.load_label_map import load_label_map

    volume = load_volume(choose_series(discover_sources(Path(case["image"]))))
    label_map = load_label_map(Path(case["label"]), volume)
    return volume, label_map.as_tensor()[0].numpy() > 0


def cut_at(predictor: Any, result: Any, threshold: float) -> Any:
    """Mask of a threshold other than the bundle's, with the bundle's own removal of small pieces."""
    import numpy as np
    import torch
    from monai.data import MetaTensor

    from ..transforms import RemoveSmallPiecesd

    mask = MetaTensor(
        torch.from_numpy((result.probability >= threshold).astype(np.uint8))[None],
        affine=torch.as_tensor(result.affine),
    )
    clean = RemoveSmallPiecesd("pred", predictor.parts.settings["minimum_diameter"])
    return clean({"pred": mask})["pred"].as_tensor()[0].numpy() > 0


def _write(path: Path, summaries: dict[float | None, Any], predictor: Any) -> None:
    content = {
        "schema": 1,
        "model_version": predictor.parts.metadata["version"],
        "weights_sha256": predictor.parts.weights_sha256,
        "settings": predictor.parts.settings,
        "results": [{"threshold": threshold, **summary.to_json()} for threshold, summary in summaries.items()],
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
