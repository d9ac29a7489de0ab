"""Whole DICOM files, with or without the 128 bytes and the prefix that a file of the standard begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ..errors import UnreadableFileError
from .element_scan import NotDicomError, scan_header


def is_dicom(path: Path) -> bool:
    """Tell by content, as for CT; a damaged file that begins like one is one.

    Raises
    ------
    UnreadableFileError
        If it cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            scan_header(stream, frozenset())
        return True
    except NotDicomError:
        return False
    except UnreadableFileError:  # it begins like one
        return True
    except OSError as error:
        raise UnreadableFileError(f"{path}: cannot be opened: {error.strerror}.", hint="Check the path.") from error


def read_dicom(path: Path, **arguments: Any) -> pydicom.FileDataset:
    """Read a file for which `is_dicom` is true, so that its pixels can be decoded.

    Parameters
    ----------
    path : Path
    **arguments
        For `pydicom.dcmread`, which raises many kinds of errors on a damaged file.
    """
    dataset = pydicom.dcmread(path, force=True, **arguments)
    if "TransferSyntaxUID" not in dataset.file_meta:  # it is in the encoding that it was read in
        is_implicit, is_little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return dataset
