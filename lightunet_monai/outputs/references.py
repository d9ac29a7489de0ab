"""Whether a DICOM result can refer to its source: the series and each of its instances need a UID of their own."""

from __future__ import annotations

from collections.abc import Sequence

from lightunet_monai.errors import OutputError
from lightunet_monai.sources import DicomSeries, DicomSlice


def check_references(series: DicomSeries, instance_uids: Sequence[str] | None = None) -> None:
    """Check that results can refer to a series and to the instance of each of its slices.

    Parameters
    ----------
    series : DicomSeries
    instance_uids : sequence of str or None
        SOP Instance UIDs, one a slice; None takes those of the slices.

    Raises
    ------
    OutputError
        If a UID is missing, or two instances have the same.
    """
    if not series.series_uid:
        raise _no_reference(f"{series.selector}: its slices have no Series Instance UID, expected one")
    owners: dict[str, DicomSlice] = {}
    uids = instance_uids if instance_uids is not None else [item.sop_instance_uid for item in series.slices]
    for item, uid in zip(series.slices, uids, strict=True):
        if not uid:
            raise _no_reference(f"{item}: has no SOP Instance UID, expected one")
        owner = owners.setdefault(uid, item)
        if (owner.path, owner.member) != (item.path, item.member):
            raise _no_reference(f"{item}: has the SOP Instance UID of {owner}, expected one of its own")
    if series.shares_instance_uids:
        raise _no_reference(
            f"series {series.series_uid}: slices of this and of another volume have one SOP Instance UID, "
            "expected one for each slice"
        )


def _no_reference(what: str) -> OutputError:
    return OutputError(
        f"{what}, to which DICOM results must refer.",
        hint="Use nifti, nrrd or segnrrd, or ask for the series again, with the UIDs of the scanner.",
        reason="no-reference",
    )
