"""``lightunet calibrate``: fit the temperature, the thresholds and the judgement of pieces on labelled cases."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

from ..errors import BundleError
from .progress import choose_reporter
from .run_options import add_run_options, number, run_options

CUTS = tuple(range(-7, 9))
"""Logits, before the temperature, at which pieces are drawn."""

SURE_CUTS = tuple(cut / 4 for cut in range(-28, 33))
"""Logits, before the temperature, from which on they count as sure."""

FALSE_POSITIVES = 0.5
"""Per volume, at most, unless told otherwise."""

FEWEST_PIECES = 20
"""Of either kind: with fewer there is nothing to fit nine weights to."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("--data", type=Path, required=True, metavar="DATALIST", help="datalist.json with references")
    parser.add_argument("--section", default="validation", help="section of the datalist (validation)")
    parser.add_argument(
        "--false-positives", type=number, metavar="N", help=f"most false positives per volume ({FALSE_POSITIVES})"
    )
    parser.add_argument(
        "--pieces",
        action="store_true",
        help="fit how connected pieces are judged instead, on cases that the network was not trained on",
    )
    parser.add_argument(
        "--write", action="store_true", help="write the numbers into the configuration of the bundle given by --bundle"
    )
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines"
    )
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write if asked."""
    from ..errors import UsageError
    from ..evaluation.calibration import OperatingPoint, choose_point
    from ..evaluation.summary import summarize
    from ..inference import Predictor
    from ..inference.bundle_files import find_bundle, settings_file
    from ..outputs.atomic import check_folder
    from .evaluate import refuse_pictures

    most = _check_options(arguments)
    if arguments.write:
        check_folder(settings_file(find_bundle(arguments.bundle), arguments.model).parent)
    refuse_pictures(arguments)
    predictor = Predictor(arguments.bundle, run_options(arguments), sure_threshold=0.0, model=arguments.model)
    if arguments.pieces:
        return _fit_pieces(arguments, predictor)
    calibration, scores = _measure(arguments, predictor)
    before = float(predictor.parts.settings["temperature"])  # type: ignore[arg-type]
    factor = calibration.fit_temperature()
    temperature = before * factor
    print(f"temperature {before:.3f} -> {temperature:.3f}; of the voxels with a probability of 0.1 and more:")
    print(f"calibration error {calibration.calibration_error(1.0):.3f} -> {calibration.calibration_error(factor):.3f}")
    points = [
        OperatingPoint.from_summary(_sigmoid(low / temperature), _sigmoid(sure / temperature), summarize(found))
        for (low, sure), found in scores.items()
    ]
    if all(math.isnan(point.dice) for point in points):
        raise UsageError(
            f"{arguments.data}: section {arguments.section!r}: found no lesion of 5 mm or more, expected some.",
            hint="Name cases with lesions: without them no threshold is better than another.",
        )
    if max(point.dice for point in points) <= 0.0:
        raise UsageError(
            f"{arguments.data}: section {arguments.section!r}: the model found none of the lesions of 5 mm and more.",
            hint="Check that volumes and label maps belong together; without a lesion found no threshold is better.",
        )
    if calibration.is_at_bound(factor):
        raise UsageError(
            f"{arguments.data}: section {arguments.section!r}: the best factor of the temperature is {factor:.3g} or "
            "beyond, expected one between 0.05 and 20: the label maps contradict the probabilities, or are too few.",
            hint="Check that volumes and label maps belong together and that label maps hold lesions alone, or give "
            "more cases.",
        )
    chosen = choose_point(points, most)
    print("\n| threshold | sure threshold | sensitivity, 5 mm and more | mean Dice, 5 mm and more | false positives |")
    print("|---|---|---|---|---|")
    for point in sorted(points, key=lambda point: (point.false_positives, -point.dice)):
        best = max(other.dice for other in points if other.false_positives <= point.false_positives)
        if point is chosen or 0.0 < point.dice >= best:  # the others are beaten in both, or find nothing
            mark = " *" if point is chosen else ""
            print(
                f"| {point.threshold:.3f}{mark} | {point.sure_threshold:.3f} | {point.sensitivity:.3f} "
                f"| {point.dice:.3f} | {point.false_positives:.2f} |"
            )
    threshold, sure = (min(max(round(p, 3), 0.001), 0.999) for p in (chosen.threshold, chosen.sure_threshold))
    print(f"\nthreshold {threshold:g}, sure threshold {sure:g}, temperature {temperature:.3f}")
    if arguments.write:
        config = settings_file(find_bundle(arguments.bundle), arguments.model)
        numbers = {"threshold": threshold, "piece_threshold": threshold, "sure_threshold": sure}
        write_numbers(config, **numbers, temperature=round(temperature, 3))
        print(f"written to {config}")
    return 0


def _check_options(arguments: argparse.Namespace) -> float:
    """Refuse what contradicts itself; give the most false positives per volume."""
    from ..errors import UsageError

    if arguments.threshold is not None:
        raise UsageError("option --threshold: calibrate chooses the threshold itself.", hint="Leave it out.")
    if arguments.write and arguments.bundle is None:
        raise UsageError("option --write: needs --bundle FOLDER, the bundle to change.")
    if arguments.pieces and arguments.false_positives is not None:
        raise UsageError("option --false-positives: --pieces chooses no threshold.", hint="Give one of them.")
    most = FALSE_POSITIVES if arguments.false_positives is None else arguments.false_positives
    if not 0.0 <= most < math.inf:
        raise UsageError(f"option --false-positives: found {most:g}, expected 0 or more.")
    return most


def _fit_pieces(arguments: argparse.Namespace, predictor: Any) -> int:
    import json

    from ..errors import UsageError
    from ..inference.bundle_files import find_bundle, pieces_path, read_metadata
    from ..labels import default_model
    from ..outputs.atomic import atomic_file
    from ..transforms.piece_judge import FEATURES, PieceMeasure, fit_judge

    model = arguments.model or default_model(read_metadata(find_bundle(arguments.bundle)))
    threshold, temperature = (float(predictor.parts.settings[name]) for name in ("threshold", "temperature"))
    logit = round(temperature * math.log(threshold / (1 - threshold)), 4)
    judges = [getattr(step, "judge", None) for step in predictor.parts.postprocessing.transforms]
    measure = next((judge.measure for judge in judges if judge is not None), PieceMeasure())
    features, is_tumour = _pieces_of_cases(arguments, predictor, logit, measure)
    tumours = int(is_tumour.sum())
    if min(tumours, len(is_tumour) - tumours) < FEWEST_PIECES:
        raise UsageError(
            f"{arguments.data}: found {tumours} pieces on lesions and {len(is_tumour) - tumours} beside, "
            f"expected {FEWEST_PIECES} of each.",
            hint="Give more cases, or keep the bundle's own judgement.",
        )
    content = {
        "weights_sha256": predictor.parts.weights_sha256,
        **fit_judge(features, is_tumour, logit, measure=measure),
    }
    print(f"{tumours} pieces on lesions, {len(is_tumour) - tumours} beside, drawn at a logit of {logit:g}")
    print("\n| what a piece is judged by | mean | scale | weight |\n|---|---|---|---|")
    for name in FEATURES:
        row = content["features"][name]
        print(f"| {name} | {row['mean']:.3f} | {row['scale']:.3f} | {row['weight']:.3f} |")
    if arguments.write:
        path = pieces_path(find_bundle(arguments.bundle), model)
        with atomic_file(path) as part:
            part.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        print(f"\nwritten to {path}")
    return 0


def _pieces_of_cases(arguments: argparse.Namespace, predictor: Any, logit: float, measure: Any) -> tuple[Any, Any]:
    """Features (N, F) of all pieces of all cases, drawn at a logit, and which of them touch a lesion (N,)."""
    import cc3d
    import numpy as np
    import torch
    from monai.data import MetaTensor

    from ..transforms import ToModelGridd, list_labelled_cases
    from ..transforms.channels import lesion_margin
    from ..transforms.piece_judge import FEATURES, piece_features
    from ..transforms.pieces import CONNECTIVITY
    from .evaluate import check_cases, read_case

    parts = predictor.parts
    tell = choose_reporter(arguments.progress)
    to_grid = ToModelGridd(keys="label", spacing=parts.settings["model_spacing"], label_keys=["label"])
    smallest = math.pi / 6 * float(parts.settings["minimum_diameter"]) ** 3 / math.prod(parts.settings["model_spacing"])
    found, is_tumour = [np.zeros((0, len(FEATURES)))], [np.zeros(0, dtype=bool)]
    cases = list_labelled_cases(arguments.data, arguments.section)
    check_cases(cases, parts.labels)
    for index, case in enumerate(cases):
        tell("infer", index / len(cases))
        volume, reference = read_case(case, parts.labels)
        label = MetaTensor(torch.from_numpy(reference.astype(np.uint8))[None], affine=volume.affine)
        with torch.inference_mode():
            image = parts.preprocessing({"image": volume})["image"].as_tensor()
            logits = parts.inferer(image[None].to(parts.device), predictor.engine)[0].float().cpu()
            lesion = to_grid({"label": label})["label"].as_tensor()[0].numpy() > 0
        margin = lesion_margin(logits).numpy()
        pieces = cc3d.connected_components(margin >= logit, connectivity=CONNECTIVITY)
        counted = np.bincount(pieces.ravel(), minlength=int(pieces.max()) + 1)[1:] >= smallest
        touching = np.isin(np.arange(1, len(counted) + 1), pieces[lesion])
        found.append(piece_features(margin, image.cpu().numpy(), pieces, measure)[counted])
        is_tumour.append(touching[counted])
    tell("write", 1.0)
    return np.concatenate(found), np.concatenate(is_tumour)


def _measure(arguments: argparse.Namespace, predictor: Any) -> tuple[Any, dict[tuple[float, float], list[Any]]]:
    import numpy as np

    from ..evaluation import score_case
    from ..evaluation.calibration import Calibration
    from ..transforms import list_labelled_cases
    from .evaluate import check_cases, cut_at, read_case

    tell = choose_reporter(arguments.progress)
    cases = list_labelled_cases(arguments.data, arguments.section)
    check_cases(cases, predictor.parts.labels)
    calibration = Calibration()
    scores: dict[tuple[float, float], list[Any]] = {
        (low, sure): [] for low in CUTS for sure in SURE_CUTS if sure >= low
    }
    temperature = float(predictor.parts.settings["temperature"])
    model_grid = _ModelGrid.watch(predictor)
    for index, case in enumerate(cases):
        tell("infer", index / len(cases))
        volume, reference = read_case(case, predictor.parts.labels)
        result = predictor.segment(volume, with_probability=True).segmentation
        calibration.add(result.probability, reference)
        for low in CUTS:
            pieces = _pieces(cut_at(predictor, result, _sigmoid(low / temperature)))
            highest = model_grid.highest(pieces, result.affine, low)
            kept, score = None, None
            for sure in (cut for cut in SURE_CUTS if cut >= low):
                is_sure = highest >= sure
                if kept is None or not np.array_equal(kept, is_sure):
                    kept = is_sure
                    score = score_case(Path(case["image"]).name, kept[pieces], reference, result.voxel_volume_ml)
                scores[low, sure].append(score)
    tell("write", 1.0)
    return calibration, scores


def _pieces(mask: Any) -> Any:
    """Connected pieces of a mask, numbered from 1."""
    import cc3d

    from ..evaluation.lesions import CONNECTIVITY

    return cc3d.connected_components(mask, connectivity=CONNECTIVITY)


class _ModelGrid:
    """The logits of the case at hand on the model's grid, where `CapDoubtfulPiecesd` decides which pieces are sure.

    On the grid of a volume with larger voxels the highest logit of a piece may lie between voxels.
    """

    def __init__(self) -> None:
        self.margin: Any = None
        self.affine: Any = None

    @classmethod
    def watch(cls, predictor: Any) -> _ModelGrid:
        """Give one that looks on whenever the predictor restores probabilities: after the judge, before the grid."""
        from ..transforms import CapDoubtfulPiecesd

        grid, compose = cls(), predictor.parts.probability
        steps = tuple(compose.transforms)
        after = max((i + 1 for i, step in enumerate(steps) if isinstance(step, CapDoubtfulPiecesd)), default=0)
        compose.transforms = (*steps[:after], grid, *steps[after:])
        return grid

    def __call__(self, case: dict[Any, Any]) -> dict[Any, Any]:
        import numpy as np
        import torch

        from ..transforms.channels import lesion_margin

        self.margin = lesion_margin(torch.as_tensor(case["pred"])).float().cpu().numpy()
        self.affine = np.asarray(case["image"].affine, dtype=np.float64)
        return case

    def highest(self, pieces: Any, affine: Any, low: float) -> Any:
        """Highest logit in each piece of a volume's grid, by its number: that of the pieces below it, drawn at `low`.

        Parameters
        ----------
        pieces : ndarray of integers, shape (X, Y, Z)
        affine : ndarray, shape (4, 4)
            Of their grid.
        low : float
            Logit at which they are drawn.

        Returns
        -------
        ndarray of float, shape (pieces + 1,)
            -inf for number 0.
        """
        import cc3d
        import numpy as np
        from scipy import ndimage

        from ..transforms.pieces import CONNECTIVITY

        own = cc3d.connected_components(self.margin >= low, connectivity=CONNECTIVITY)
        sure = np.full(int(own.max()) + 1, -np.inf)
        np.maximum.at(sure, own.ravel(), self.margin.ravel())
        sure[0] = -np.inf
        by_voxel = sure[own]
        inside = np.argwhere(pieces > 0)
        to_model = np.linalg.inv(self.affine) @ np.asarray(affine, dtype=np.float64)
        index = np.rint(inside @ to_model[:3, :3].T + to_model[:3, 3]).astype(int)
        place = tuple(np.clip(index, 0, np.array(own.shape) - 1).T)
        found = np.full(int(pieces.max()) + 1, -np.inf)
        numbers = pieces[pieces > 0]
        np.maximum.at(found, numbers, by_voxel[place])
        if np.isinf(found[1:]).any():  # so thin that the voxels nearest to its own are not in the piece
            beside = np.full_like(found, -np.inf)
            np.maximum.at(beside, numbers, ndimage.maximum_filter(by_voxel, 3)[place])
            found = np.where(np.isinf(found), beside, found)
        return found


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))


def write_numbers(config: Path, **numbers: float) -> None:
    """Replace top-level numbers of a configuration, leaving every other character as it is.

    Parameters
    ----------
    config : Path
        ``inference.json``; replaced in one step.
    **numbers : float
        New value by id.

    Raises
    ------
    BundleError
        If an id is not there exactly once as a number.
    """
    from ..outputs.atomic import atomic_file

    text = config.read_text(encoding="utf-8")
    for name, value in numbers.items():
        text, count = re.subn(rf'("{name}":\s*)-?[0-9.]+(?:[eE][-+]?[0-9]+)?', rf"\g<1>{value:g}", text)
        if count != 1:
            raise BundleError(
                f"{config}: {name} found {count} times as a number, expected once.",
                hint=f"Write {name} = {value:g} by hand.",
            )
    with atomic_file(config) as part:
        part.write_text(text, encoding="utf-8")
