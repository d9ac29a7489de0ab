"""Which label a segment of somebody's segmentation is: by its codes, and by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import UnsupportedImageError
from ..labels import Code, Label, LabelTable

SNOMED_RT = ("SRT", "SNM3", "99SDM")
"""Designators of the coding scheme that DICOM objects had before SNOMED CT."""


@dataclass(frozen=True)
class NamedSegment:
    """What a file says about one of its segments.

    Parameters
    ----------
    name : str
        As people gave it.
    type : tuple of str or None
        Coding scheme and code value of the segmented property type, such as ``("SCT", "4147007")``.
    """

    name: str
    type: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.name!r} ({' '.join(self.type)})" if self.type else f"{self.name!r} (no code)"


def label_of(segment: NamedSegment, labels: LabelTable, what: str) -> Label:
    """Find the label that a segment is meant to be.

    A label of the same property type code is taken; where several share the code, or none has it, the name decides. A
    name fits if it is the label's name or title, a number behind it aside ("Breast mass 2"). Where neither fits, those
    names and codes do that the label's definition lists as others of the same structure.

    Parameters
    ----------
    segment : NamedSegment
    labels : LabelTable
        Of the model.
    what : str
        What to call the file in the message.

    Returns
    -------
    Label

    Raises
    ------
    UnsupportedImageError
        If no label fits, or several do.
    """
    name = _plain(segment.name)
    coded = [label for label in labels if _is_one_of(segment.type, (label.type,))]
    named = [label for label in labels if name in (_plain(label.name), _plain(label.title))]
    found = [label for label in coded if label in named] or (coded + named)
    if not found:
        found = [
            label
            for label in labels
            if _is_one_of(segment.type, label.other_types) or name in map(_plain, label.other_names)
        ]
    if len(found) == 1:
        return found[0]
    expected = "; ".join(f"{label.name} or {label.title} ({label.type.scheme} {label.type.value})" for label in labels)
    fits = f"fits {' and '.join(label.name for label in found)}" if found else "is no label of the model"
    raise UnsupportedImageError(
        f"{what}: segment {segment} {fits}, expected one of: {expected}.",
        hint="Give the segment the name of a label, or take it out.",
        reason="segment-ambiguous" if found else "segment-unknown",
    )


def _is_one_of(code: tuple[str, str] | None, types: Iterable[Code]) -> bool:
    if code is not None and code[0] in SNOMED_RT:
        from pydicom.sr.coding import Code as DicomCode  # knows which code of SNOMED CT an older one has become

        own = DicomCode(code[1], "SRT", "")
        return any(own == DicomCode(other.value, other.scheme, "") for other in types)
    return any(code == (other.scheme, other.value) for other in types)


def _plain(name: str) -> str:
    return re.sub(r"\s+\d+$", "", " ".join(name.split()).casefold())
