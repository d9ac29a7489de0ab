"""``lightunet evaluate PRED REF``: label maps from files against references from files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import GeometryError, UsageError
from ..labels import LabelTable
from .density import read_density
from .evaluate_structures import StructureTally, check_values, named_labels
from .evaluation_output import Gallery, describe, write_evaluation
from .pairing import pair_label_maps, volume_of
from .progress import choose_reporter


def run_on_files(arguments: argparse.Namespace) -> int:
    """Score every pair, print the tables, write what was asked for."""
    import numpy as np

    from ..evaluation import Evaluation, evaluate_case
    from ..review import draw_comparison

    tell = choose_reporter(arguments.progress)
    pairs = pair_label_maps(arguments.pred, arguments.ref)
    volumes = {name: volume_of(name, arguments.images) for name, _, _ in pairs} if arguments.images else {}
    labels = named_labels(arguments.bundle, arguments.model)
    structures = StructureTally(labels, arguments.bundle, arguments.model)
    cases, gallery = [], Gallery()
    seen: set[int] = set()
    for index, (name, prediction_path, reference_path) in enumerate(pairs):
        tell("read", index / len(pairs))
        predicted, expected = load_pair(prediction_path, reference_path, labels)
        affine = np.asarray(expected.affine, dtype=np.float64)
        maps = [item.as_tensor()[0].numpy() for item in (predicted, expected)]
        if labels is not None:
            check_values(maps, (prediction_path, reference_path), labels)
        seen.update(*(np.unique(values).tolist() for values in maps))
        prediction, reference = (_lesions(values, arguments.label, labels) for values in maps)
        case = evaluate_case(
            name,
            prediction,
            reference,
            spacing=np.linalg.norm(affine[:3, :3], axis=0).tolist(),
            voxel_volume_ml=float(abs(np.linalg.det(affine[:3, :3]))) / 1000.0,
            density=read_density(reference_path),
        )
        cases.append(case)
        structures.add(name, maps, case.voxels.voxel_volume_ml, (prediction_path, reference_path))
        if arguments.output is not None:
            behind = _load_volume(volumes[name], expected, reference_path) if volumes else None
            gallery.offer(
                name,
                case.voxels.dice,
                lambda p=prediction, r=reference, a=affine, v=behind: draw_comparison(p, r, a, v),  # type: ignore[misc]
            )
    if arguments.label is not None and arguments.label not in seen:
        raise UsageError(
            f"option --label: no label map holds the value {arguments.label}, found {sorted(seen)}.",
            hint="Segments of .seg.nrrd files have the values of the model's labels.",
        )
    tell("write", 1.0)
    evaluation = Evaluation(tuple(cases))
    print(evaluation.to_text())
    found = structures.evaluation()
    if found is not None:
        print(f"\n{found.to_text()}")
    if arguments.output is not None:
        content = describe(evaluation, gallery, training=arguments.run_folder, structures=found)
        print(f"\nwritten: {write_evaluation(arguments.output, evaluation, gallery, content, found)}")
    return 0


def _lesions(values: Any, value: int | None, labels: LabelTable | None) -> Any:
    """Where a label map has a lesion: the value asked for, those of the model that was named, or all above 0."""
    import numpy as np

    if value is not None:
        return values == value
    return values > 0 if labels is None else np.isin(values, labels.lesions)


def load_pair(prediction: Path, reference: Path, labels: LabelTable | None = None) -> tuple[Any, Any]:
    """Read a predicted label map and its reference, each (1, X, Y, Z); segments are matched with `labels`.

    Raises
    ------
    GeometryError
        If they do not lie on one grid; names both files and both grids.
    """
    from ..transforms.load_label_map import check_same_grid, load_label_map
    from ..transforms.read_seg_nrrd import is_seg_nrrd

    # A segmentation of 3D Slicer covers a part of the grid only, and is painted on it by position.
    if is_seg_nrrd(reference) and not is_seg_nrrd(prediction):
        predicted = load_label_map(prediction, labels=labels)
        return _perpendicular(predicted, prediction), load_label_map(reference, predicted, labels)
    expected = _perpendicular(load_label_map(reference, labels=labels), reference)
    if is_seg_nrrd(prediction):
        return load_label_map(prediction, expected, labels), expected
    predicted = load_label_map(prediction, labels=labels)
    try:
        check_same_grid(predicted, expected, str(prediction))
    except GeometryError as error:
        raise GeometryError(
            f"{prediction} has {_grid(predicted)}; {reference} has {_grid(expected)}; expected one grid.",
            hint="Write both on the grid of their volume; nothing is resampled here.",
            reason="label-grid",
        ) from error
    return predicted, expected


def _perpendicular(label_map: Any, path: Path) -> Any:
    """Refuse a grid whose axes lean: distances between surfaces are measured along perpendicular axes."""
    import numpy as np

    from ..inputs.image_header import check_affine

    try:
        check_affine(np.asarray(label_map.affine, dtype=np.float64), str(path))
    except GeometryError as error:
        if error.reason != "tilt":
            raise
        raise GeometryError(
            error.message, hint="Evaluate label maps on a grid with perpendicular axes.", reason="tilt"
        ) from error
    return label_map


def _load_volume(path: Path, reference: Any, reference_path: Path) -> Any:
    from ..inputs import choose_series, discover_sources, load_volume
    from ..transforms.load_label_map import check_same_grid

    volume = load_volume(choose_series(discover_sources(path)))
    check_same_grid(reference, volume, str(reference_path))
    return volume.as_tensor()[0].numpy()


def _grid(label_map: Any) -> str:
    import numpy as np

    affine = np.asarray(label_map.affine, dtype=np.float64)
    voxels = " x ".join(str(size) for size in label_map.shape[1:])
    spacing = " x ".join(f"{step:.4g}" for step in np.linalg.norm(affine[:3, :3], axis=0))
    origin = ", ".join(f"{value:.4g}" for value in affine[:3, 3])
    return f"{voxels} voxels of {spacing} mm from ({origin}) mm with axes {_axes(affine)}"


def _axes(affine: Any) -> str:
    import nibabel

    return "".join(code or "?" for code in nibabel.aff2axcodes(affine))
