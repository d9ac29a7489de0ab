"""The formats a segmentation can be written in, by the name used on the command line.

Writers are loaded when they are first called, so that asking for the names is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lightunet_monai.errors import OutputError, UsageError
from lightunet_monai.segmentation import Segmentation
from lightunet_monai.sources import DicomSeries, ImageSource

from .references import check_references
from .slice_grid import check_slices


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    name : str
        As on the command line.
    title : str
        What it is, for people.
    file_name : str
        The file in the output folder.
    module, function : str
        The writer: ``function(segmentation, path, **options)`` in a module of this package.
    needs_series : bool
        The format refers to the DICOM instances of the source.
    needs_probability : bool
        The format stores the probability map.
    implies : tuple of str
        Formats that are written with it.
    options : mapping
        Keyword arguments of the writer that belong to the name.
    """

    name: str
    title: str
    file_name: str
    module: str
    function: str
    needs_series: bool = False
    needs_probability: bool = False
    implies: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def writer(self) -> Callable[..., Path]:
        """The function that writes this format; loads its module."""
        return getattr(import_module(f".{self.module}", __package__), self.function)  # type: ignore[no-any-return]


_ALL = (
    Format("nifti", "label map, NIfTI", "labelmap.nii.gz", "nifti", "write_nifti"),
    Format("nrrd", "label map, NRRD", "labelmap.nrrd", "nrrd", "write_nrrd"),
    Format("segnrrd", "3D Slicer segmentation", "labelmap.seg.nrrd", "seg_nrrd", "write_seg_nrrd"),
    Format("seg", "DICOM Segmentation, binary", "segmentation.dcm", "dicom_seg", "write_dicom_seg", needs_series=True),
    Format(
        "seg-labelmap",
        "DICOM Label Map Segmentation",
        "segmentation_labelmap.dcm",
        "dicom_seg",
        "write_dicom_seg",
        needs_series=True,
        options={"kind": "labelmap"},
    ),
    Format(
        "seg-fractional",
        "DICOM Segmentation, probabilities",
        "segmentation_fractional.dcm",
        "dicom_seg",
        "write_dicom_seg",
        needs_series=True,
        needs_probability=True,
        options={"kind": "fractional"},
    ),
    Format(
        "sr",
        "DICOM Structured Report with measurements",
        "findings_sr.dcm",
        "dicom_sr",
        "write_dicom_sr",
        needs_series=True,
        implies=("seg",),
    ),
    Format("rtstruct", "DICOM RT Structure Set", "rtstruct.dcm", "rtstruct", "write_rtstruct", needs_series=True),
    Format(
        "probability",
        "probability map, NIfTI",
        "probability.nii.gz",
        "nifti",
        "write_probability",
        needs_probability=True,
    ),
    Format("stl", "surface, STL", "surface.stl", "surface", "write_surface"),
    Format("obj", "surface, OBJ", "surface.obj", "surface", "write_surface"),
)

FORMATS: Mapping[str, Format] = MappingProxyType({item.name: item for item in _ALL})
"""Every format, by name, in the order in which help texts list them."""


def choose_formats(names: Sequence[str]) -> tuple[Format, ...]:
    """Give the formats of these names and those they imply, each once, in the order of `FORMATS`.

    Raises
    ------
    UsageError
        If a name is unknown, or there is none.
    """
    if not names:
        raise UsageError(f"formats: found none, expected some of {', '.join(FORMATS)}.")
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise UsageError(f"formats: found {', '.join(unknown)}, expected some of {', '.join(FORMATS)}.")
    wanted = {*names, *(other for name in names for other in FORMATS[name].implies)}
    return tuple(item for item in _ALL if item.name in wanted)


def check_formats(
    formats: Sequence[Format], source: ImageSource | None, segmentation: Segmentation | None = None
) -> None:
    """Check that the source, and the segmentation once it is there, can be expressed in these formats.

    Raises
    ------
    OutputError
        If a format refers to DICOM instances and the source has none, some without a UID of their own or some that do
        not lie on the grid of the label map, or stores probabilities and there are none.
    """
    for item in formats:
        if item.needs_series and source is not None and not isinstance(source, DicomSeries):
            raise OutputError(
                f"format {item.name}: {source.path} is not a DICOM series, which {item.title} must refer to.",
                hint="Use nifti, nrrd or segnrrd, or give the DICOM series.",
                reason="needs-dicom",
            )
        if item.needs_series and isinstance(source, DicomSeries) and _has_headers(source):
            check_references(source)
        if item.needs_series and isinstance(source, DicomSeries):
            _check_slices(source, segmentation)
        if item.needs_probability and segmentation is not None and segmentation.probability is None:
            raise OutputError(
                f"format {item.name}: the segmentation carries no probability map.",
                hint="Ask for probabilities when the segmentation is made.",
                reason="no-probability",
            )


def _check_slices(series: DicomSeries, segmentation: Segmentation | None) -> None:
    """Check the grid of the label map or, before there is one, that of a regular series, on which it will lie."""
    if segmentation is not None:
        check_slices(series, segmentation.affine, segmentation.label_map.shape[2])
    elif series.affine is not None and series.problem is None:  # what is irregular is refused when it is loaded
        check_slices(series, np.array(series.affine), len(series.slices))


def _has_headers(series: DicomSeries) -> bool:
    """Whether its UIDs are those of the files: a series made by hand names files only."""
    return all(item.pixels is not None for item in series.slices)
