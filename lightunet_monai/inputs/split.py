"""Planes of one series become volumes: what makes a volume is decided here.

A series UID is not enough: one series may hold two patients, several phases or kernels, a localizer,
or one odd slice. Planes are told apart by size, pixel spacing and orientation, and where several lie at
one position, by the first header value that separates them into proper stacks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from ..errors import GeometryError, InputError
from .clusters import MIN_STACK, FoundPlane, cluster_planes, mixture_problem, set_strays_aside, spacing_text
from .geometry import POSITION_TOLERANCE_MM, Grid, make_grid
from .kinds import SetAside

SPLIT_KEYS = {
    "temporal_position": "phase",
    "acquisition_number": "acquisition",
    "kernel": "kernel",
    "cardiac_phase": "cardiac-phase",
    "trigger_time": "trigger-time",
    "kvp": "kvp",
    "laterality": "laterality",
    "stack": "stack",
    "frame_of_reference": "frame-of-reference",
    "image_type": "image-type",
    "slice_thickness": "thickness",
    "content_time": "time",
    "acquisition_time": "time",
}
"""Header values that tell volumes of one series apart, in the order they are tried, with their names."""

_OVERLAP_KEYS = (
    *("temporal_position", "kernel", "kvp", "cardiac_phase", "image_type", "frame_of_reference"),
    *("acquisition_number", "trigger_time", "laterality", "stack", "slice_thickness", "acquisition_time"),
)
"""Keys that separate stacks which interleave without sharing a position; blocks one behind the other stay whole."""

_UNSHOWN_KEYS = ("content_time", "acquisition_time", "frame_of_reference")


@dataclass(frozen=True)
class Stack:
    """Planes that belong to one volume, or would if they were complete.

    Parameters
    ----------
    planes : tuple of FoundPlane
        In slice order if there is a grid.
    grid : Grid or None
        Where they lie; None if their positions do not say.
    problem : InputError or None
        Why they cannot be loaded as they are.
    key, label : str
        What tells this volume apart from the others of the series: for programs, for people.
    warnings : tuple of str
        What was tolerated.
    shares_instance_uids : bool
        Some planes have the SOP Instance UID of a plane at another position.
    """

    planes: tuple[FoundPlane, ...]
    grid: Grid | None
    problem: InputError | None
    key: str = ""
    label: str = ""
    warnings: tuple[str, ...] = ()
    shares_instance_uids: bool = False


PixelHash = Callable[[FoundPlane], str]


def split_series(planes: Sequence[FoundPlane], what: str, pixel_hash: PixelHash) -> tuple[list[Stack], list[SetAside]]:
    """Split the planes of one series and one patient into volumes.

    Parameters
    ----------
    planes : sequence of FoundPlane
        In any order.
    what : str
        Begins every message, for example ``"Series 1.2.3"``.
    pixel_hash : callable
        Hash of the stored pixels of one plane, called for suspected duplicates only.

    Returns
    -------
    list of Stack, list of SetAside
    """
    kept, shared = _drop_identical(planes, pixel_hash)
    dropped = len(planes) - len(kept)
    warnings: tuple[str, ...] = (f"{what}: {dropped} identical copies of slices were dropped.",) if dropped else ()
    groups, strays, lost = set_strays_aside(cluster_planes(kept), what)
    warnings += lost
    stacks: list[Stack] = []
    if problem := mixture_problem(groups, what):
        return [Stack(tuple(kept), None, problem, warnings=warnings)], strays
    for index, group in enumerate(groups):
        parts = _split_by_key(group, what)
        for part in parts:
            key = "-".join(filter(None, (f"geometry{index + 1}" if len(groups) > 1 else "", part.key)))
            label = ", ".join(filter(None, (_geometry_label(group) if len(groups) > 1 else "", part.label)))
            part = _with_reference_warnings(part, shared, what)
            stacks.append(replace(part, key=key, label=label, warnings=warnings + part.warnings))
    return stacks, strays


def _drop_identical(planes: Sequence[FoundPlane], pixel_hash: PixelHash) -> tuple[list[FoundPlane], set[str]]:
    """Keep one of planes that agree in SOP Instance UID, frame, position and stored pixels.

    Returns
    -------
    list of FoundPlane, set of str
        The second are the SOP Instance UIDs of planes at different positions.
    """
    groups: dict[Hashable, list[FoundPlane]] = defaultdict(list)
    for item in planes:
        groups[(item.file.header.sop_instance_uid or id(item), item.plane.frame)].append(item)
    kept: list[FoundPlane] = []
    shared: set[str] = set()
    for same in groups.values():
        if len(same) == 1:
            kept += same
            continue
        distinct = {(item.plane.position, item.plane.orientation, pixel_hash(item)): item for item in reversed(same)}
        if len({item.plane.position for item in same}) > 1:
            shared.add(same[0].file.header.sop_instance_uid)
        kept += reversed(distinct.values())
    return kept, shared


def _with_reference_warnings(stack: Stack, shared: set[str], what: str) -> Stack:
    """The stack with warnings of slices that have no SOP Instance UID, or one of `shared`."""
    uids = [item.file.header.sop_instance_uid for item in stack.planes]
    warnings = stack.warnings
    if nameless := sum(not uid for uid in uids):
        warnings += (f"{what}: {nameless} slices have no SOP Instance UID; DICOM results cannot refer to them.",)
    is_shared = any(uid in shared for uid in uids)
    if is_shared:
        warnings += (f"{what}: different slices share one SOP Instance UID; DICOM results cannot refer to them.",)
    return replace(stack, warnings=warnings, shares_instance_uids=is_shared)


def _split_by_key(group: list[FoundPlane], what: str) -> list[Stack]:
    """One stack, or several that a header value separates."""
    whole = _stack(group, what)
    along = _slice_positions(group)
    if along is not None and (np.diff(along) < POSITION_TOLERANCE_MM).any():
        for keys in _key_choices():
            parts = _partition(group, keys)
            if len(parts) > 1 and all(_is_proper_stack(part) for part in parts.values()):
                return _name_parts(parts, keys, what)
        return [whole]
    for key in _OVERLAP_KEYS:
        parts = _partition(group, (key,))
        if len(parts) > 1 and _do_interleave(list(parts.values()), what):
            return _name_parts(parts, (key,), what)
    return [replace(whole, warnings=whole.warnings + _mixed_value_warnings(group, what))]


def _key_choices() -> list[tuple[str, ...]]:
    keys = list(SPLIT_KEYS)
    return [(key,) for key in keys] + list(combinations(keys[:6], 2))


def _partition(group: Iterable[FoundPlane], keys: tuple[str, ...]) -> dict[tuple[str, ...], list[FoundPlane]]:
    parts: dict[tuple[str, ...], list[FoundPlane]] = defaultdict(list)
    for item in group:
        parts[tuple(item.plane.keys.get(key, "") for key in keys)].append(item)
    return parts


def _is_proper_stack(part: Sequence[FoundPlane]) -> bool:
    """At least two slices, no two of them at one position."""
    along = _slice_positions(part)
    return along is not None and len(along) > 1 and bool((np.diff(along) >= POSITION_TOLERANCE_MM).all())


def _do_interleave(parts: Sequence[Sequence[FoundPlane]], what: str) -> bool:
    """Every part is a regular volume of its own, and at least two of them overlap in space."""
    if any(len(part) < MIN_STACK for part in parts):
        return False
    ends = sorted(
        (float(along[0]), float(along[-1])) for part in parts if (along := _slice_positions(part)) is not None
    )
    if len(ends) < len(parts) or all(one[1] <= two[0] for one, two in pairwise(ends)):
        return False
    return all(_stack(part, what).problem is None for part in parts)


def _slice_positions(part: Sequence[FoundPlane]) -> np.ndarray | None:
    orientation = part[0].plane.orientation
    positions = [item.plane.position for item in part]
    if orientation is None or any(position is None for position in positions):
        return None
    return np.sort(np.array(positions) @ np.cross(orientation[:3], orientation[3:]))


def _stack(group: Sequence[FoundPlane], what: str) -> Stack:
    pixels = group[0].file.header.pixels
    if pixels is None:
        raise AssertionError("planes without pixels are set aside before")
    try:
        grid = make_grid([item.plane for item in group], pixels.rows, pixels.columns, what=what)
    except GeometryError as problem:
        return Stack(tuple(group), None, problem)
    return Stack(tuple(group[index] for index in grid.order), grid, grid.problem)


def _name_parts(parts: dict[tuple[str, ...], list[FoundPlane]], keys: tuple[str, ...], what: str) -> list[Stack]:
    stacks = []
    for index, values in enumerate(sorted(parts, key=lambda values: tuple(map(_natural, values)))):
        key = f"{SPLIT_KEYS[keys[0]]}{index + 1}"
        # Times and UIDs say nothing to people, and times may not be shown.
        named = [
            (SPLIT_KEYS[name], value) for name, value in zip(keys, values, strict=True) if name not in _UNSHOWN_KEYS
        ]
        label = (
            ", ".join(f"{name} {value or '(none)'}" for name, value in named) or f"{SPLIT_KEYS[keys[0]]} {index + 1}"
        )
        stacks.append(replace(_stack(parts[values], f"{what} ({label})"), key=key, label=label))
    return stacks


def _natural(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def _mixed_value_warnings(group: Sequence[FoundPlane], what: str) -> tuple[str, ...]:
    """Values that should not change within a volume, but leave its geometry right."""
    warnings = []
    for key in ("kernel", "kvp", "frame_of_reference", "acquisition_number"):
        values = Counter(item.plane.keys.get(key, "") for item in group)
        if len(values) > 1:
            named = {"frame_of_reference": "frames of reference", "acquisition_number": "acquisition numbers"}
            name = named.get(key, f"values of {SPLIT_KEYS[key]}")
            warnings.append(f"{what}: {len(values)} {name} in one stack of {len(group)} slices.")
    return tuple(warnings)


def _geometry_label(group: Sequence[FoundPlane]) -> str:
    pixels = group[0].file.header.pixels
    size = f"{pixels.columns} x {pixels.rows}" if pixels else ""
    return f"{size} pixels of {spacing_text(group[0].plane)}"
