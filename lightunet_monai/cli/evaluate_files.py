"""``lightunet evaluate PRED REF``: label maps from files against references from files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import GeometryError, NoImageFoundError, UnsupportedImageError, UsageError
from ..labels import LabelTable
from ..sources import ImageSource
from .density import read_density
from .evaluate_structures import StructureTally, check_values, named_labels
from .evaluation_output import Gallery, describe, write_evaluation
from .pairing import Pair, pair_label_maps, volume_of
from .progress import choose_reporter

_NAME_VOLUMES = "Name the folder of the volumes that they were drawn on with --images."


def run_on_files(arguments: argparse.Namespace) -> int:
    """Score every pair, print the tables, write what was asked for."""
    import numpy as np

    from ..evaluation import Evaluation, evaluate_case
    from ..review import draw_comparison
    from ..transforms.load_label_map import check_same_grid

    tell = choose_reporter(arguments.progress)
    pairs = _pairs(arguments)
    volumes = _volumes(arguments, pairs)
    labels = named_labels(arguments.bundle, arguments.model)
    structures = StructureTally(labels, arguments.bundle, arguments.model)
    cases, gallery = [], Gallery()
    seen: dict[str, set[int]] = {"predictions": set(), "references": set()}
    for index, pair in enumerate(pairs):
        tell("read", index / len(pairs))
        name, prediction_path, reference_path = pair.name, pair.prediction, pair.reference
        volume = _load_volume(volumes[name]) if name in volumes else None
        predicted, expected = load_pair(prediction_path, reference_path, labels, volume)
        if volume is not None:
            check_same_grid(expected, volume, str(reference_path))
        affine = np.asarray(expected.affine, dtype=np.float64)
        maps = [item.as_tensor()[0].numpy() for item in (predicted, expected)]
        if labels is not None:
            check_values(maps, (prediction_path, reference_path), labels)
        for side, values in zip(seen, maps, strict=True):
            seen[side].update(np.unique(values).tolist())
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
            behind = None if volume is None else volume.as_tensor()[0].numpy()
            gallery.offer(
                name,
                case.voxels.dice,
                lambda p=prediction, r=reference, a=affine, v=behind: draw_comparison(p, r, a, v),  # type: ignore[misc]
            )
    if arguments.label is not None:
        _check_label(arguments.label, seen)
    tell("write", 1.0)
    if arguments.label is None and labels is None:
        _warn_of_several_values(seen)
    evaluation = Evaluation(tuple(cases))
    print(evaluation.to_text())
    found = structures.evaluation()
    if found is not None:
        print(f"\n{found.to_text()}")
    if arguments.output is not None:
        content = describe(evaluation, gallery, training=arguments.run_folder, structures=found)
        print(f"\nwritten: {write_evaluation(arguments.output, evaluation, gallery, content, found)}")
    return 0


def _check_label(value: int, seen: dict[str, set[int]]) -> None:
    """Refuse a value that no label map holds, or that one side has under another one: all of it would be missed."""
    strange = {side: values for side, values in seen.items() if value not in values and len(values - {0}) == 1}
    if not strange and not any(value in values for values in seen.values()):
        strange = seen
    if strange:
        found = ", ".join(f"{sorted(values)} in the {side}" for side, values in strange.items())
        raise UsageError(
            f"option --label: no label map of one side holds the value {value}, found {found}.",
            hint="Predictions and references need one value for lesions. Segments of .seg.nrrd files have the values "
            "of the model's labels.",
        )


def _warn_of_several_values(seen: dict[str, set[int]]) -> None:
    """Say that all values count as lesions where there are several, which may be tissues."""
    for side, values in seen.items():
        found = sorted(values - {0})
        if len(found) > 1:
            print(
                f"warning: the {side} hold the values {found}, and all of them count as lesions. If some are tissues, "
                "name the model whose labels these are with --model, or the value of the lesions with --label."
            )


def _lesions(values: Any, value: int | None, labels: LabelTable | None) -> Any:
    """Where a label map has a lesion: the value asked for, those of the model that was named, or all above 0."""
    import numpy as np

    if value is not None:
        return values == value
    return values > 0 if labels is None else np.isin(values, labels.lesions)


def load_pair(
    prediction: Path, reference: Path, labels: LabelTable | None = None, volume: Any = None
) -> tuple[Any, Any]:
    """Read a predicted label map and its reference, each (1, X, Y, Z); segments are matched with `labels`.

    Segments of 3D Slicer and DICOM cover a part of a grid only, and are painted by position: on the grid of the other
    side, or where both are such, on that of their volume (1, X, Y, Z). Both get the axes of the volume, or of the
    reference.

    Raises
    ------
    GeometryError
        If they do not lie on one grid; names both files and both grids.
    UnsupportedImageError
        If both are segments, and nothing tells their grid.
    """
    from ..transforms.load_label_map import check_same_grid, holds_segments, load_label_map, turned_like

    def turned(label_map: Any, like: Any) -> Any:
        return label_map if like is None else turned_like(label_map, like)

    parts = [path for path in (prediction, reference) if holds_segments(path)]
    if len(parts) == 2:
        grid = _perpendicular(_joint_grid(prediction, reference) if volume is None else volume, reference)
        return load_label_map(prediction, grid, labels), load_label_map(reference, grid, labels)
    if parts == [reference]:
        predicted = turned(_perpendicular(load_label_map(prediction, labels=labels), prediction), volume)
        return predicted, load_label_map(reference, predicted, labels)
    expected = turned(_perpendicular(load_label_map(reference, labels=labels), reference), volume)
    if parts == [prediction]:
        return load_label_map(prediction, expected, labels), expected
    predicted = load_label_map(prediction, labels=labels)
    on_axes = turned(predicted, expected)
    try:
        check_same_grid(on_axes, expected, str(prediction))
    except GeometryError as error:
        raise GeometryError(
            f"{prediction} has {_grid(predicted)}; {reference} has {_grid(expected)}; expected one grid.",
            hint="Write both on the grid of their volume; nothing is resampled here.",
            reason="label-grid",
        ) from error
    return on_axes, expected


def _joint_grid(prediction: Path, reference: Path) -> Any:
    """An empty label map (1, X, Y, Z) around the boxes of two segmentations of 3D Slicer."""
    import torch
    from monai.data import MetaTensor

    from ..inputs.dicom_file import is_dicom
    from ..transforms.label_grid import joint_grid
    from ..transforms.read_seg_nrrd import read_seg_nrrd

    of_dicom = [path for path in (prediction, reference) if is_dicom(path)]
    if of_dicom:
        raise UnsupportedImageError(
            f"{of_dicom[0]}: a DICOM Segmentation leaves out empty slices, and {prediction} and {reference} both "
            "hold segments alone, expected a grid.",
            hint=_NAME_VOLUMES,
            reason="label-grid",
        )
    boxes = [
        (segmentation.layers.shape[1:], segmentation.affine)
        for segmentation in (read_seg_nrrd(reference), read_seg_nrrd(prediction))
    ]
    try:
        shape, affine = joint_grid(*boxes)
    except GeometryError as error:
        grids = [_describe_grid(shape, affine) for shape, affine in boxes]
        raise GeometryError(
            f"{prediction} has {grids[1]}; {reference} has {grids[0]}; expected voxels of one grid.",
            hint=_NAME_VOLUMES,
            reason="label-grid",
        ) from error
    return MetaTensor(torch.zeros((1, *shape), dtype=torch.uint8), affine=torch.as_tensor(affine))


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


def _pairs(arguments: argparse.Namespace) -> list[Pair]:
    from .pairing_batch import NO_PARTNER, cases_of_batch, pair_results

    cases = cases_of_batch(arguments.pred)
    if cases is None:
        return pair_label_maps(arguments.pred, arguments.ref)
    if arguments.images is None or not (arguments.ref.is_dir() and arguments.images.is_dir()):
        return pair_label_maps(cases, arguments.ref, NO_PARTNER)
    return pair_results(cases, arguments.ref, arguments.images)


def _volumes(arguments: argparse.Namespace, pairs: list[Pair]) -> dict[str, Path | ImageSource]:
    """Where the volume of each case is; empty without ``--images``. Of a single case it may be named itself."""
    images: Path | None = arguments.images
    if images is None:
        return {}
    if all(pair.volume for pair in pairs):
        return {pair.name: pair.volume for pair in pairs if pair.volume}
    names = [pair.name for pair in pairs]
    if len(names) == 1 and images.is_file():
        return {names[0]: images}
    try:
        return {name: volume_of(name, images) for name in names}
    except NoImageFoundError:
        if len(names) == 1 and _holds_dicom(images):  # the volume itself: a DICOM series is a folder
            return {names[0]: images}
        raise


def _holds_dicom(folder: Path) -> bool:
    from ..inputs.dicom_file import is_dicom

    return any(is_dicom(path) for path in sorted(folder.glob("*")) if path.is_file())


def _load_volume(place: Path | ImageSource) -> Any:
    from ..inputs import choose_series, discover_sources, load_volume

    return load_volume(choose_series(discover_sources(place)) if isinstance(place, Path) else place)


def _grid(label_map: Any) -> str:
    return _describe_grid(label_map.shape[1:], label_map.affine)


def _describe_grid(shape: Sequence[int], grid_affine: Any) -> str:
    import numpy as np

    affine = np.asarray(grid_affine, dtype=np.float64)
    voxels = " x ".join(str(size) for size in shape)
    spacing = " x ".join(f"{step:.4g}" for step in np.linalg.norm(affine[:3, :3], axis=0))
    origin = ", ".join(f"{value:.4g}" for value in affine[:3, 3])
    return f"{voxels} voxels of {spacing} mm from ({origin}) mm with axes {_axes(affine)}"


def _axes(affine: Any) -> str:
    import nibabel

    return "".join(code or "?" for code in nibabel.aff2axcodes(affine))
