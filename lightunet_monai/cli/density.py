"""Breast density of a labelled case, from what ``lightunet simulate`` writes beside its label map."""

from __future__ import annotations

import json
from pathlib import Path

from .pairing import stem


def read_density(label: Path) -> float | None:
    """Give the share of dense tissue in the breast.

    Parameters
    ----------
    label : Path
        ``.../labels/NAME.nii.gz``; the tissue map is looked for as ``.../tissues/NAME.nii.gz`` and, without one, the
        parameters of the simulator as ``.../parameters/NAME.json``.

    Returns
    -------
    float or None
        0 to 1; None if neither is there.
    """
    import nibabel
    import numpy as np

    from ..simulation.tissues import breast_density

    beside = label.absolute().parent.parent
    tissues = beside / "tissues" / f"{stem(label)}.nii.gz"
    if tissues.is_file():
        return breast_density(np.asarray(nibabel.load(tissues).dataobj).astype(np.uint8))
    parameters = beside / "parameters" / f"{stem(label)}.json"
    try:
        return float(json.loads(parameters.read_text(encoding="utf-8"))["parenchyma"]["glandular_fraction"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
