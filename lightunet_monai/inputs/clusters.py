"""Planes of one series, grouped by what no volume can mix: size, pixel spacing and orientation."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import GeometryError
from .geometry import ORIENTATION_TOLERANCE, PIXEL_SPACING_TOLERANCE
from .kinds import DicomFile, SetAside
from .planes import Plane

MIN_STACK = 3
"""Slices that a class of planes needs to count as a volume of its own."""

_PERPENDICULAR_DEGREES = 45.0
"""A lone image turned further than this against the stack is a localizer that does not say so."""


@dataclass(frozen=True)
class FoundPlane:
    """One plane and the file it is in."""

    file: DicomFile
    plane: Plane


def cluster_planes(planes: Iterable[FoundPlane]) -> list[list[FoundPlane]]:
    """Group planes of one size, pixel spacing and orientation, within the tolerances; largest group first."""
    clusters: list[list[FoundPlane]] = []
    by_value: dict[Hashable, list[FoundPlane]] = {}
    for item in planes:
        pixels = item.file.header.pixels
        size = (pixels.rows, pixels.columns) if pixels else (0, 0)
        exact = (size, item.plane.pixel_spacing, item.plane.orientation)
        home = by_value.get(exact)
        if home is None:
            home = next((cluster for cluster in clusters if _is_alike(cluster[0], item)), None)
            if home is None:
                home = []
                clusters.append(home)
            by_value[exact] = home
        home.append(item)
    return sorted(clusters, key=len, reverse=True)


def _is_alike(first: FoundPlane, second: FoundPlane) -> bool:
    one, two = first.file.header.pixels, second.file.header.pixels
    if one is None or two is None or (one.rows, one.columns) != (two.rows, two.columns):
        return False
    a, b = first.plane, second.plane
    return _has_equal_spacing(a, b) and _is_parallel(a, b)


def _is_parallel(a: Plane, b: Plane) -> bool:
    if a.orientation is None or b.orientation is None:
        return a.orientation is b.orientation
    return bool(np.allclose(a.orientation, b.orientation, rtol=0.0, atol=ORIENTATION_TOLERANCE))


def _has_equal_spacing(a: Plane, b: Plane) -> bool:
    """Relative to the smaller one, as `make_grid` compares them."""
    if a.pixel_spacing is None or b.pixel_spacing is None:
        return a.pixel_spacing is b.pixel_spacing
    pairs = zip(a.pixel_spacing, b.pixel_spacing, strict=True)
    return all(abs(one - two) <= PIXEL_SPACING_TOLERANCE * min(abs(one), abs(two)) for one, two in pairs)


def set_strays_aside(
    groups: list[list[FoundPlane]], what: str
) -> tuple[list[list[FoundPlane]], list[SetAside], tuple[str, ...]]:
    """Set a lone image aside that stands across the stack, or has no place: a localizer without the name.

    Returns
    -------
    list of groups
        What is left.
    list of SetAside
    tuple of str
        A warning, if what was set aside may have been a slice of the stack: at its end nothing else would show it.
    """
    if len(groups) < 2 or len(groups[0]) < MIN_STACK:
        return groups, [], ()
    kept, aside, lost = groups[:1], [], 0
    for group in groups[1:]:
        if len(group) < MIN_STACK and _angle_degrees(groups[0][0].plane, group[0].plane) > _PERPENDICULAR_DEGREES:
            reason = "image across the stack or without a place: a localizer that does not say so"
            aside.append(SetAside(what, len(group), "localizer", reason))
            lost += sum(_may_be_a_slice_of(groups[0], item) for item in group)
        else:
            kept.append(group)
    text = "images of its kind have no place and were left out; slices may be missing at the ends of the volume."
    return kept, aside, (f"{what}: {lost} {text}",) if lost else ()


def _may_be_a_slice_of(stack: list[FoundPlane], stray: FoundPlane) -> bool:
    """A stray image without a place that is else like the slices of the stack."""
    one, two = stack[0].file.header.pixels, stray.file.header.pixels
    if stray.plane.orientation is not None or one is None or two is None:
        return False
    return (
        (one.rows, one.columns) == (two.rows, two.columns)
        and _has_equal_spacing(stack[0].plane, stray.plane)
        and any(item.plane.keys.get("image_type") == stray.plane.keys.get("image_type") for item in stack)
    )


def _angle_degrees(first: Plane, second: Plane) -> float:
    if first.orientation is None or second.orientation is None:
        return 0.0 if first.orientation is second.orientation else 90.0
    a, b = (np.cross(cosines[:3], cosines[3:]) for cosines in (first.orientation, second.orientation))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(abs(a @ b) / lengths, 0, 1)))) if lengths else 0.0


def mixture_problem(groups: list[list[FoundPlane]], what: str) -> GeometryError | None:
    """Several geometries are several volumes only if each is a stack of its own; else one slice is wrong."""
    small = [group for group in groups if len(group) < MIN_STACK]
    if len(groups) < 2 or not small:
        return None
    main, odd = groups[0], small[0]
    one, two = main[0].file.header.pixels, odd[0].file.header.pixels
    count = f"{len(odd)} of {sum(map(len, groups))} slices"
    if one and two and (one.rows, one.columns) != (two.rows, two.columns):
        return GeometryError(
            f"{what}: {count} have another matrix size, {two.columns} x {two.rows} pixels, "
            f"expected {one.columns} x {one.rows}.",
            hint="Ask for a complete export of one reconstruction.",
            reason="mixed-size",
        )
    angle = _angle_degrees(main[0].plane, odd[0].plane)
    if not _is_parallel(main[0].plane, odd[0].plane):
        return GeometryError(
            f"{what}: {count} differ in orientation by {angle:.2f} degrees, expected parallel slices.",
            hint="Ask for an export of one reconstruction.",
            reason="mixed-orientation",
        )
    found, expected = (spacing_text(group[0].plane) for group in (odd, main))
    return GeometryError(
        f"{what}: {count} have pixel spacing {found}, expected {expected}.",
        hint="Ask for an export of one reconstruction.",
        reason="mixed-spacing",
    )


def spacing_text(plane: Plane) -> str:
    """Pixel spacing of a plane, for messages."""
    return (
        " x ".join(f"{value:.4f}" for value in plane.pixel_spacing) + " mm" if plane.pixel_spacing else "unknown size"
    )
