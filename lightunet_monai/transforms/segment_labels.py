"""Which label a segment of somebody's segmentation is: by its codes, and by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UnsupportedImageError
from ..labels import Label, LabelTable


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
    name fits if it is the label's name or title, a number behind it aside ("Breast mass 2").

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
    coded = [label for label in labels if segment.type == (label.type.scheme, label.type.value)]
    named = [label for label in labels if _plain(segment.name) in (_plain(label.name), _plain(label.title))]
    found = [label for label in coded if label in named] or (coded + named)
    if len(found) == 1:
        return found[0]
    expected = "; ".join(f"{label.name} or {label.title} ({label.type.scheme} {label.type.value})" for label in labels)
    fits = f"fits {' and '.join(label.name for label in found)}" if found else "is no label of the model"
    raise UnsupportedImageError(
        f"{what}: segment {segment} {fits}, expected one of: {expected}.",
        hint="Give the segment the name of a label, or take it out.",
        reason="segment-ambiguous" if found else "segment-unknown",
    )


def _plain(name: str) -> str:
    return re.sub(r"\s+\d+$", "", " ".join(name.split()).casefold())
