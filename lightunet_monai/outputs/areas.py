"""What is measured on a 2-D image: areas, in square millimetres where the image states its spacing, else in pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # its parts load when they are first used

from lightunet_monai.segmentation import Segmentation

_DIGITS = 4
_TOUCHING = np.ones((3, 3), dtype=bool)
"""Pixels that touch by a corner belong together."""


def measure_areas(segmentation: Segmentation) -> dict[str, Any]:
    """Measure the areas of a picture's label map.

    Parameters
    ----------
    segmentation : Segmentation
        Of a picture: label map (X, Y, 1).

    Returns
    -------
    dict
        JSON values: ``unit`` (``"mm2"`` or ``"pixels"``), ``labels`` (area by name), ``pieces`` (connected pieces,
        the largest first: number, label, area, pixels, centroid as (column, row), box as first and last column and
        row).
    """
    across, down, _ = segmentation.spacing
    pixel = across * down if segmentation.has_spacing else 1.0
    plane = segmentation.label_map[:, :, 0]
    pieces: list[dict[str, Any]] = []
    for label in segmentation.labels:
        numbered, _ = scipy.ndimage.label(plane == label.value, structure=_TOUCHING)
        for index, box in enumerate(scipy.ndimage.find_objects(numbered), start=1):
            places = np.argwhere(numbered[box] == index) + [part.start for part in box]
            low, high = places.min(axis=0), places.max(axis=0)
            pieces.append(
                {
                    "label": label.name,
                    "area": round(len(places) * pixel, _DIGITS),
                    "pixels": len(places),
                    "centroid_pixel": [round(float(value), _DIGITS) for value in places.mean(axis=0)],
                    "box_pixels": [int(low[0]), int(high[0]), int(low[1]), int(high[1])],
                }
            )
    pieces.sort(key=lambda piece: -piece["pixels"])
    return {
        "unit": "mm2" if segmentation.has_spacing else "pixels",
        "labels": {
            label.name: round(np.count_nonzero(plane == label.value) * pixel, _DIGITS) for label in segmentation.labels
        },
        "pieces": [{"number": number, **piece} for number, piece in enumerate(pieces, start=1)],
    }
