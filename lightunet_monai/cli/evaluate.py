"""``lightunet evaluate``: label maps against references, or the model on labelled cases it has not seen."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..labels import LabelTable
from ..options import RunOptions
from .progress import choose_reporter
from .run_options import add_run_options, run_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("pred", type=Path, nargs="?", metavar="PRED", help="predicted label maps: a folder or a file")
    parser.add_argument("ref", type=Path, nargs="?", metavar="REF", help="references with the same names")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATALIST",
        help="in place of PRED and REF: the model on labelled cases",
    )
    parser.add_argument("--section", metavar="NAME", help="section of the datalist (test, or testing)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder for evaluation.html, evaluation.json, cases.csv and lesions.csv; or FILE.json for the JSON alone",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="volumes of PRED and REF: behind the outlines in the pictures, the grid where both are cropped, and what "
        "tells which result of a batch is of which volume",
    )
    parser.add_argument(
        "--label",
        type=int,
        metavar="VALUE",
        help="value of the lesions in PRED and REF (every value above 0; with --model those of its lesions)",
    )
    parser.add_argument(
        "--run", type=Path, dest="run_folder", metavar="FOLDER", help="a training, for its learning curves"
    )
    parser.add_argument(
        "--thresholds",
        metavar="P,...",
        help="with --data, several operating thresholds: a free-response curve from one inference a case",
    )
    parser.add_argument(
        "--progress", choices=("auto", "bar", "json", "none"), default="auto", help="a bar, or JSON lines"
    )
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score every case and print the tables."""
    from .evaluate_files import run_on_files

    _check_output(arguments)
    given = [value is not None for value in (arguments.data, arguments.pred, arguments.ref)]
    if given == [False, True, True]:
        _refuse_model_options(arguments)
        if arguments.label is not None and not 1 <= arguments.label <= 255:
            raise UsageError(f"option --label: found {arguments.label}, expected a value from 1 to 255.")
        if arguments.label is not None and arguments.model is not None:
            raise UsageError("found --label and --model, expected one of them: the model names its labels.")
        return run_on_files(arguments)
    if given == [True, False, False]:
        if arguments.images:
            raise UsageError("option --images: the datalist names the volumes.", hint="Use it with PRED and REF.")
        if arguments.label is not None:
            raise UsageError("option --label: the model names its labels.", hint="Use it with PRED and REF.")
        return _run_model(arguments)
    raise UsageError(
        "found neither or both of PRED REF and --data DATALIST, expected one of them.",
        hint="lightunet evaluate PRED REF, or lightunet evaluate --data DATALIST.",
    )


def _refuse_model_options(arguments: argparse.Namespace) -> None:
    """Refuse what says how the model runs: on label maps it does not."""
    for name in ("threshold", "thresholds", "section", *(field.name for field in fields(RunOptions))):
        if getattr(arguments, name) is not None:
            why = "label maps hold no probabilities" if name.startswith("threshold") else "no model runs on label maps"
            raise UsageError(f"option --{name.replace('_', '-')}: {why}.", hint="Use it with --data.")


def _check_output(arguments: argparse.Namespace) -> None:
    """Refuse before hours of work what would fail after them."""
    from ..outputs.atomic import check_folder
    from .evaluation_output import refuse_foreign_files

    if arguments.output is not None:
        if _is_json(arguments.output) and arguments.output.is_dir():
            raise UsageError(
                f"option -o: {arguments.output} is a folder, expected a file where the name ends with .json.",
                hint="Name another file, or a folder whose name does not end with .json.",
            )
        check_folder(arguments.output.absolute().parent if _is_json(arguments.output) else arguments.output.absolute())
        refuse_foreign_files(arguments.output)
    if arguments.run_folder is not None:
        if arguments.output is None or (arguments.data is not None and _is_json(arguments.output)):
            raise UsageError("option --run: the learning curves need a place.", hint="Add -o FOLDER.")
        if not arguments.run_folder.is_dir():
            raise UsageError(f"option --run: {arguments.run_folder}: no such folder.")


def _parse_thresholds(text: str | None) -> list[float | None]:
    if text is None:
        return [None]
    try:
        thresholds = [float(part) for part in text.split(",")]
    except ValueError:
        thresholds = []
    if not thresholds or not all(0 < threshold < 1 for threshold in thresholds):
        raise UsageError(f"option --thresholds: found {text!r}, expected numbers between 0 and 1: 0.3,0.5,0.7.")
    return [*dict.fromkeys(thresholds)]


def _run_model(arguments: argparse.Namespace) -> int:
    from ..evaluation import evaluate_case, score_case, summarize
    from ..evaluation.calibration import Calibration
    from ..inference import Predictor
    from ..review import draw_comparison
    from ..transforms import list_labelled_cases
    from .density import read_density
    from .evaluate_structures import StructureTally
    from .evaluation_output import Gallery

    tell = choose_reporter(arguments.progress)
    thresholds = _parse_thresholds(arguments.thresholds)
    cases = list_labelled_cases(arguments.data, arguments.section or "test", optional=("tissue",))
    refuse_pictures(arguments)
    predictor = Predictor(
        arguments.bundle, run_options(arguments), threshold=arguments.threshold, model=arguments.model
    )
    check_cases(cases, predictor.parts.labels)
    has_folder = arguments.output is not None and not _is_json(arguments.output)
    if arguments.threshold is not None and thresholds != [None]:
        thresholds = [None, *thresholds]  # its own figures, as the model is used with it, beside those of the curve
    scores: dict[float | None, list[Any]] = {threshold: [] for threshold in thresholds}
    evaluated, gallery, calibration = [], Gallery(), Calibration()
    structures = StructureTally(predictor.parts.labels, arguments.bundle, arguments.model)
    names = distinct_names([Path(case["image"]) for case in cases])
    for index, (case, name) in enumerate(zip(cases, names, strict=True)):
        tell("infer", index / len(cases))
        volume, label_map = read_labelled(case, predictor.parts.labels)
        reference = lesions_of(label_map, Path(case["label"]), predictor.parts.labels)
        result = predictor.segment(volume, with_probability=has_folder or thresholds != [None]).segmentation
        structures.add_case(name, result, case, label_map)
        for threshold, prediction in _cut_all(predictor, result, thresholds):
            scores[threshold].append(score_case(name, prediction, reference, result.voxel_volume_ml))
        if has_folder and result.probability is not None:
            mask = lesion_mask(result)
            evaluated.append(
                evaluate_case(
                    name,
                    mask,
                    reference,
                    spacing=result.spacing,
                    voxel_volume_ml=result.voxel_volume_ml,
                    density=read_density(Path(case["label"]), case.get("tissue")),
                )
            )
            calibration.add(result.probability, reference)
            behind = volume.as_tensor()[0].numpy()
            gallery.offer(
                name,
                evaluated[-1].voxels.dice,
                lambda p=mask, r=reference, a=result.affine, v=behind: draw_comparison(p, r, a, v),  # type: ignore[misc]
            )
    tell("write", 1.0)
    summaries = {threshold: summarize(found) for threshold, found in scores.items()}
    for threshold, summary in summaries.items():
        if thresholds != [None]:
            title = f"{arguments.threshold:g}, as the model is used" if threshold is None else f"{threshold:g}"
            print(f"\nthreshold {title}\n")
        print(summary.to_text())
    found = structures.evaluation()
    if found is not None:
        print(f"\n{found.to_text()}")
    if has_folder:
        _write_folder(arguments, predictor, evaluated, gallery, calibration, scores, found)
    elif arguments.output:
        _write(arguments.output, summaries, predictor, found)
    return 0


def refuse_pictures(arguments: argparse.Namespace) -> None:
    """Refuse a model for pictures: a datalist here names volumes."""
    from ..inference.bundle_files import find_bundle, read_metadata, takes_pictures
    from ..labels import default_model

    metadata = read_metadata(find_bundle(arguments.bundle))
    model = arguments.model or default_model(metadata)
    if takes_pictures(metadata, model):
        raise UsageError(
            f"option --model: {model} takes pictures, expected a model for volumes.",
            hint="Choose a model for volumes, or leave --model out.",
        )


def check_cases(cases: Sequence[dict[str, Any]], labels: LabelTable) -> None:
    """Refuse by their headers, before hours of work, the cases that would end it."""
    from ..transforms import LoadImageVolumed
    from ..transforms.check_label_grids import check_label_grids

    loader = LoadImageVolumed("image", label_keys="label")
    loader.labels = labels
    check_label_grids(cases, loader)


def distinct_names(paths: list[Path]) -> list[str]:
    """Name cases by their files, and by as many folders above them as tell them apart; a repeated path gets a number.

    Parameters
    ----------
    paths : list of Path

    Returns
    -------
    list of str
        One for each path, no two alike.
    """
    names: list[str] = []
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    times = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if count == 1 else f"{name} ({count})" for name, count in zip(names, times, strict=True)]


def _is_json(path: Path) -> bool:
    return path.name.lower().endswith(".json")


def _write_folder(
    arguments: argparse.Namespace,
    predictor: Any,
    evaluated: list[Any],
    gallery: Any,
    calibration: Any,
    scores: dict[float | None, list[Any]],
    structures: Any,
) -> None:
    from dataclasses import asdict

    from ..evaluation import Evaluation
    from ..evaluation.cases import free_response_point
    from ..evaluation.summary import without_nan
    from .evaluation_output import describe, write_evaluation

    evaluation = Evaluation(tuple(evaluated))
    densities = [case.density for case in evaluated]
    points = [free_response_point(t, found, densities) for t, found in scores.items() if t is not None]
    curve = [asdict(group) for group in calibration.reliability()]
    content = describe(
        evaluation,
        gallery,
        model=_model(predictor),
        threshold=float(predictor.parts.settings["threshold"]),
        free_response=points or None,
        calibration=without_nan({"error": calibration.calibration_error(1.0), "curve": curve}),
        training=arguments.run_folder,
        structures=structures,
    )
    print(f"\nwritten: {write_evaluation(arguments.output, evaluation, gallery, content, structures)}")


def _model(predictor: Any) -> dict[str, Any]:
    return {
        "version": predictor.parts.metadata["version"],
        "weights_sha256": predictor.parts.weights_sha256,
        "settings": predictor.parts.settings,
    }


def _cut_all(predictor: Any, result: Any, thresholds: list[float | None]) -> Iterator[tuple[float | None, Any]]:
    """Give each threshold with its mask, one after the other."""
    for threshold in thresholds:
        yield threshold, lesion_mask(result) if threshold is None else cut_at(predictor, result, threshold)


def lesion_mask(segmentation: Any) -> Any:
    """Where a segmentation has a lesion; normal tissue is no lesion."""
    import numpy as np

    return np.isin(segmentation.label_map, segmentation.labels.lesions)


def read_case(case: dict[str, Any], labels: LabelTable | None = None) -> tuple[Any, Any]:
    """Load one entry of a datalist: volume (1, X, Y, Z) in Hounsfield units, reference mask (X, Y, Z) of lesions."""
    volume, label_map = read_labelled(case, labels)
    return volume, lesions_of(label_map, Path(case["label"]), labels)


def read_labelled(case: dict[str, Any], labels: LabelTable | None = None) -> tuple[Any, Any]:
    """Load volume and label map, (1, X, Y, Z) each, of one entry of a datalist."""
    from ..inputs import choose_series, discover_sources, load_volume
    from ..transforms.load_label_map import load_label_map
    from ..transforms.model_grid import unify_lesions

    volume = load_volume(choose_series(discover_sources(Path(case["image"]))))
    label_map = load_label_map(Path(case["label"]), volume, labels)
    if labels is not None and labels.has_tissues:
        label_map = unify_lesions(label_map, labels.values, case["label"])
    return volume, label_map


def lesions_of(label_map: Any, path: Path, labels: LabelTable | None = None) -> Any:
    """Where a label map (1, X, Y, Z) has a lesion: its one value above 0, or those of a table of several labels.

    Raises
    ------
    UnsupportedImageError
        If there are several values, and one label; names the file and the values.
    """
    import numpy as np

    from ..transforms.model_grid import check_one_value

    values = label_map.as_tensor()[0]
    if labels is not None and len(labels) > 1:
        return np.isin(values.numpy(), labels.lesions)
    check_one_value(values, str(path))
    return values.numpy() > 0


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


def _write(path: Path, summaries: dict[float | None, Any], predictor: Any, structures: Any) -> None:
    from ..outputs.atomic import atomic_file

    model = _model(predictor)
    content = {
        "schema": 1,
        "model_version": model["version"],
        "weights_sha256": model["weights_sha256"],
        "settings": model["settings"],
        "results": [{"threshold": threshold, **summary.to_json()} for threshold, summary in summaries.items()],
        "structures": None if structures is None else structures.to_json(),
    }
    with atomic_file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
