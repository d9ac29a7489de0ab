"""One 2-D image as plain values for ``inspect`` and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError, NoImageFoundError
from .describe import describe_error, unread_file
from .image2d_read import read_model_input


def describe_image2d(path: Path) -> dict[str, Any]:
    """Read one 2-D image and describe it, JSON values only; no patient data.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        As `describe_survey`: ``sources`` holds the image, of kind ``"image2d"``, whose ``shape`` is (columns, rows)
        and whose ``spacing`` is that along both, mm.

    Raises
    ------
    NoImageFoundError
        If there is no such file; every other refusal is the ``problem`` of the image.
    """
    source = unread_file("image2d", path.name, path) | {"spacing": None}
    try:
        plane = read_model_input(path)
    except NoImageFoundError:
        raise
    except InputError as error:
        source["problem"] = describe_error(error)
    else:
        rows, columns = plane.pixels.shape
        spacing = [round(value, 6) for value in plane.spacing] if plane.spacing else None
        source |= {"shape": [columns, rows], "spacing": spacing, "warnings": list(plane.warnings)}
    problem = source["problem"]
    choice = {"selector": None if problem else path.name, "error": problem}
    return {"sources": [source], "set_aside": [], "choice": choice}
