"""Does every label map lie on the grid of its volume? Asked of the headers, before hours of training begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AmbiguousSeriesError, GeometryError, InputError, UnreadableFileError
from ..inputs import choose_series, discover_sources
from ..inputs.dicom_file import is_dicom
from ..inputs.hounsfield import check_source
from ..inputs.image_files import read_image_header
from ..labels import LabelTable
from ..sources import DicomSeries
from .label_grid import Grid, LabelGrid
from .load_label_map import check_equal_grids, read_label_header, turned_grid
from .load_volume import LoadImageVolumed
from .read_dicom_seg import dicom_seg_grids, paint_dicom_seg
from .read_seg_nrrd import is_seg_nrrd, paint_seg_nrrd, read_seg_nrrd, seg_nrrd_grid

FILES_NAMED = 5
"""Of those that cannot be used, in a message."""


def check_label_grids(cases: Sequence[Mapping[str, Any]], loader: LoadImageVolumed) -> None:
    """Refuse cases whose headers say that the loader will refuse them.

    Parameters
    ----------
    cases : sequence of mapping
        As `list_labelled_cases` gives them: paths of a volume and of its label maps.
    loader : LoadImageVolumed
        What will load them.

    Raises
    ------
    InputError
        If there are any; names the first of them, each with what is wrong.
    """
    problems = [problem for case in cases for problem in _problems(case, loader)]
    problems = list({problem.message: problem for problem in problems}.values())
    if not problems:
        return
    first = problems[0]
    if len(problems) == 1:
        raise first
    kind = GeometryError if all(isinstance(problem, GeometryError) for problem in problems) else InputError
    lines = [f"{len(problems)} files of the cases cannot be used:"]
    lines += [problem.message for problem in problems[:FILES_NAMED]]
    if len(problems) > FILES_NAMED:
        lines.append(f"and {len(problems) - FILES_NAMED} more.")
    raise kind("\n  ".join(lines), hint=first.hint, reason=first.reason)


def _problems(case: Mapping[str, Any], loader: LoadImageVolumed) -> Iterator[InputError]:
    try:
        grid = _volume_grid(Path(case[loader.first_key(case)]), assume_hu=loader.assume_hu)
    except InputError as error:
        yield error
        return
    for key in loader.label_keys:
        if key in case:
            try:
                _check_label_map(Path(case[key]), grid, loader.labels)
            except InputError as error:
                yield error


def _volume_grid(path: Path, *, assume_hu: bool) -> Grid:
    try:
        source = choose_series(discover_sources(path), assume_hu=assume_hu)
    except AmbiguousSeriesError as error:  # which of them the label map belongs to cannot be told by an option
        raise AmbiguousSeriesError(
            f"{path}: {error.message}", hint="Keep one of them there, or give the folder or file of each to a case."
        ) from error
    check_source(source, assume_hu=assume_hu)
    if not isinstance(source, DicomSeries):
        header = read_image_header(source.path)
        return header.shape, header.affine
    if source.shape is None or source.affine is None:
        raise GeometryError(f"Series {source.series_uid}: no affine.", reason="no-position")
    return source.shape, np.array(source.affine)


def _check_label_map(path: Path, grid: Grid, labels: LabelTable | None) -> None:
    if is_seg_nrrd(path) or is_dicom(path):
        _check_segments(path, LabelGrid(grid[0], grid[1], str(path)), labels or LabelTable.shipped())
    else:
        check_equal_grids(turned_grid(read_label_header(path), grid), grid, str(path))


def _check_segments(path: Path, grid: LabelGrid, labels: LabelTable) -> None:
    """Refuse segments that cannot be painted; where the header leaves that open, by painting them."""
    is_nrrd = is_seg_nrrd(path)
    try:
        grids = [seg_nrrd_grid(path)] if is_nrrd else dicom_seg_grids(path)
    except UnreadableFileError:
        grids = []
    if grids and all(grid.holds(*part) for part in grids):
        return
    # Without a voxel in it, a part beside the volume does no harm.
    if is_nrrd:
        paint_seg_nrrd(read_seg_nrrd(path), grid, labels)
    else:
        paint_dicom_seg(path, grid, labels)
