"""Breast density of a labelled case, from what ``lightunet simulate`` writes beside its label map."""

from __future__ import annotations

import json
from pathlib import Path

from .pairing import stem


def read_density(label: Path, tissue: str | Path | None = None) -> float | None:
    """Give the share of dense tissue in the breast.

    Parameters
    ----------
    label : Path
        ``.../labels/NAME.nii.gz``; the tissue map is looked for as ``.../tissues/NAME.nii.gz`` and, without one, the
        parameters of the simulator as ``.../parameters/NAME.json``.
    tissue : str or Path, optional
        The tissue map itself.

    Returns
    -------
    float or None
        0 to 1; None if neither is there.

    Raises
    ------
    UnreadableFileError, UnsupportedImageError, GeometryError
        If there is a tissue map that cannot be read as a label map.
    """
    from ..simulation.tissues import breast_density
    from ..transforms.load_label_map import load_label_map

    beside = label.absolute().parent.parent
    tissues = Path(tissue) if tissue else beside / "tissues" / f"{stem(label)}.nii.gz"
    if tissue or tissues.is_file():
        return breast_density(load_label_map(tissues).as_tensor()[0].numpy())
    parameters = beside / "parameters" / f"{stem(label)}.json"
    try:
        return float(json.loads(parameters.read_text(encoding="utf-8"))["parenchyma"]["glandular_fraction"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
