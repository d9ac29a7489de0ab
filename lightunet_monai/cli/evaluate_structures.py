"""``lightunet evaluate`` where labels are more than lesions: every structure of each case, counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedImageError
from ..labels import LESION, LabelTable, metadata_of

if TYPE_CHECKING:
    from ..evaluation import StructureCase, StructureEvaluation


def named_labels(bundle: Path | None, model: str | None) -> LabelTable | None:
    """Give the labels of the model that the user named; None if none was, and label maps may come from anywhere.

    Raises
    ------
    UsageError
        If the bundle has no such model.
    BundleError
        If there is no such bundle.
    """
    from ..inference.bundle_files import find_bundle, overlays_of, read_metadata

    if bundle is None and model is None:
        return None
    metadata = read_metadata(find_bundle(bundle))
    overlays_of(metadata, model)  # refuses a model that the bundle does not have
    return LabelTable.from_metadata(metadata_of(metadata, model))


def check_values(maps: Sequence[Any], files: Sequence[Path], labels: LabelTable) -> None:
    """Refuse label maps, arrays (X, Y, Z) from these files, that hold other values than the labels of a model.

    Raises
    ------
    UnsupportedImageError
        Names the file and the values.
    """
    import numpy as np

    for values, path in zip(maps, files, strict=True):
        unknown = sorted(set(np.unique(values).tolist()) - {0, *labels.values})
        if unknown:
            raise UnsupportedImageError(
                f"{path}: the label map holds the values {unknown}, expected some of {[0, *labels.values]}.",
                hint="Name the model whose labels these are with --model, or the value of the lesions with --label.",
                reason="label-values",
            )


class StructureTally:
    """Takes cases in, and gives their evaluation; nothing of either where the labels are lesions alone.

    Parameters
    ----------
    labels : LabelTable or None
        None has no tissues.
    bundle : Path or None
        As in `find_bundle`: says what the values of tissue maps are.
    model : str or None
        Of the bundle.
    """

    def __init__(self, labels: LabelTable | None, bundle: Path | None, model: str | None) -> None:
        self.labels = labels if labels is not None and labels.has_tissues else None
        self.bundle = bundle
        self.model = model
        self._cases: list[StructureCase] = []

    def add_case(self, name: str, result: Any, case: dict[str, Any], label_map: Any) -> None:
        """Take in a `Segmentation` of one entry of a datalist.

        The reference is the entry's label map over its tissue map.
        """
        if self.labels is None:
            return
        files = (Path(case["image"]), Path(case["label"]))
        self.add(name, (result.label_map, self._with_tissues(case, label_map)), result.voxel_volume_ml, files)

    def add(self, name: str, maps: Sequence[Any], voxel_volume_ml: float, files: Sequence[Path]) -> None:
        """Take in prediction and reference, arrays (X, Y, Z), from these files; leave out what names no tissue.

        Raises
        ------
        UnsupportedImageError
            If one holds a value that is no label.
        """
        from ..evaluation import StructureCase, count_structures

        if self.labels is None:
            return
        check_values(maps, files, self.labels)
        prediction, reference = maps
        if int(reference.max()) <= LESION:  # lesions alone were drawn: what is what elsewhere is not known
            return
        self._cases.append(StructureCase(name, count_structures(prediction, reference, self.labels), voxel_volume_ml))

    def evaluation(self) -> StructureEvaluation | None:
        """Give what was found; None without a case."""
        from ..evaluation import StructureEvaluation

        if self.labels is None or not self._cases:
            return None
        return StructureEvaluation(self.labels, tuple(self._cases))

    def _with_tissues(self, case: dict[str, Any], label_map: Any) -> Any:
        from ..inference.bundle_files import find_bundle, tissue_values
        from ..transforms import MergeTissuesd
        from ..transforms.load_label_map import load_label_map

        if "tissue" in case:
            tissue = load_label_map(Path(case["tissue"]), label_map)
            merge = MergeTissuesd("label", "tissue", tissue_values(find_bundle(self.bundle), self.model))
            label_map = merge({"label": label_map, "tissue": tissue})["label"]
        return label_map.as_tensor()[0].numpy()
