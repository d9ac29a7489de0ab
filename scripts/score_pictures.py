"""Dice and false marks of a model for 2-D images, on the section "test" of a datalist.

    python scripts/score_pictures.py datalist.json --bundle OUT/bundle

Images with a lesion count with their Dice (0 where nothing was found); images without one with whether anything was
marked. Figures are given for each class of the datalist, with a 95 % interval from resampling groups of
near-duplicates, because two copies of one image are not two observations.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from lightunet_monai import Predictor
from lightunet_monai.errors import LightUNetError, NoImageFoundError
from lightunet_monai.inputs import load_image2d, load_mask2d
from lightunet_monai.options import RunOptions

RESAMPLES = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description="Dice and false marks on 2-D images.")
    parser.add_argument("datalist", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--model", default="ultrasound")
    parser.add_argument("--section", default="test")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--engine", default="torch")
    arguments = parser.parse_args()
    try:
        return _print_scores(parser, arguments)
    except LightUNetError as error:
        print(f"error: {error}", file=sys.stderr)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: {arguments.datalist}: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


def _print_scores(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    options = RunOptions(threads=arguments.threads, engine=arguments.engine)
    predictor = Predictor(arguments.bundle, options, model=arguments.model)
    lists = json.loads(arguments.datalist.read_text(encoding="utf-8"))
    if arguments.section not in lists:
        parser.error(f"{arguments.datalist}: no section {arguments.section!r}, expected one of {', '.join(lists)}.")
    cases = lists[arguments.section]
    if not cases:
        raise NoImageFoundError(
            f"{arguments.datalist}: section {arguments.section!r}: no case.",
            hint="List at least one image and mask there.",
        )
    rows = [(case, _score(predictor, arguments.datalist.parent, case)) for case in cases]
    kinds = sorted({str(case["class"]) for case, _ in rows if "class" in case})
    print("| images | cases | Dice mean [95 %] | Dice median | nothing found | marked without a lesion |")
    print("|---|---|---|---|---|---|")
    for kind in [*kinds, "all"]:
        chosen = [(case, score) for case, score in rows if kind in ("all", str(case.get("class")))]
        print(_line(kind, chosen))
    return 0


def _score(predictor: Predictor, folder: Path, case: dict[str, object]) -> tuple[float | None, bool]:
    """Dice (None without a lesion), and whether anything was marked."""
    path = folder / str(case["image"])
    truth = load_mask2d(folder / str(case["label"]), load_image2d(path))[0, :, :, 0].numpy() > 0  # (X, Y)
    found = predictor.segment(path).segmentation.label_map[:, :, 0] > 0
    if not truth.any():
        return None, bool(found.any())
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum()), bool(found.any())


def _line(kind: str, chosen: list[tuple[dict[str, object], tuple[float | None, bool]]]) -> str:
    dice = [
        (str(case.get("group", index)), score) for index, (case, (score, _)) in enumerate(chosen) if score is not None
    ]
    empty = [marked for _, (score, marked) in chosen if score is None]
    false = f"{sum(empty)} of {len(empty)}" if empty else "-"
    if not dice:
        return f"| {kind} | {len(chosen)} | - | - | - | {false} |"
    values = np.array([score for _, score in dice])
    low, high = _interval(dice)
    missed = sum(not marked for _, (score, marked) in chosen if score is not None)
    return (
        f"| {kind} | {len(chosen)} | {values.mean():.3f} [{low:.3f}, {high:.3f}] | {np.median(values):.3f} "
        f"| {missed} of {len(values)} | {false} |"
    )


def _interval(dice: list[tuple[str, float]]) -> tuple[float, float]:
    groups: dict[str, list[float]] = {}
    for group, score in dice:
        groups.setdefault(group, []).append(score)
    names, random = sorted(groups), np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        drawn = random.integers(len(names), size=len(names))
        means.append(np.mean([score for index in drawn for score in groups[names[index]]]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    raise SystemExit(main())
