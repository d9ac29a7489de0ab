"""One plane of a DICOM instance, as its header describes it."""

from __future__ import annotations

from dataclasses import dataclass, field

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Plane:
    """One plane of an instance: where it lies, how its values are meant, and what it belongs to.

    Parameters
    ----------
    frame : int or None
        Zero-based frame index; None in a single-frame instance.
    position, orientation, pixel_spacing : tuple of float or None
        Image Position and Orientation (Patient), LPS; Pixel Spacing (between rows, between columns), mm.
    slope, intercept : float or None
        Rescale.
    rescale_type : str
        As in the header, upper case.
    keys : dict of str to str
        What may tell volumes of one series apart: kernel, acquisition, phase and so on; empty values left out.
    """

    frame: int | None
    position: Vector | None
    orientation: Orientation | None
    pixel_spacing: tuple[float, float] | None
    slope: float | None
    intercept: float | None
    rescale_type: str = ""
    keys: dict[str, str] = field(default_factory=dict)


def parse_numbers(parts: tuple[str, ...], count: int) -> tuple[float, ...] | None:
    """Exactly ``count`` finite decimal numbers, or None."""
    if len(parts) != count:
        return None
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        return None
    return numbers if all(abs(number) < 1e7 for number in numbers) else None
