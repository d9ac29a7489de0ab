"""What a DICOM result needs to know of its source series, read again from the headers and made consistent.

Real series carry defects that the standard forbids and writers stumble over: a different Frame of Reference UID on
every slice, a missing one, differing Study Instance UIDs, invalid dates. They are settled here, on copies; source
files are never altered.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VM
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import DA, TM, DSfloat, validate_value

from lightunet_monai.errors import OutputError, UnreadableFileError
from lightunet_monai.segmentation import Segmentation
from lightunet_monai.sources import DicomSeries, DicomSlice

from .references import check_references
from .slice_grid import check_slices
from .uids import derived_uid

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

_STORAGE = "1.2.840.10008.5.1.4.1.1."

_MULTI_FRAME_CLASSES = frozenset(f"{_STORAGE}{end}" for end in ("2.1", "2.2", "7.1", "7.2", "7.3", "7.4"))
"""Enhanced and legacy converted CT, multi-frame secondary capture: references to them may name a frame."""

# fmt: off
_COPIED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "EthnicGroup", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "Modality",
    "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "InstitutionName",
    "StationName", "PatientPosition", "PositionReferenceIndicator", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)
# fmt: on

_IDENTIFIERS = ("PatientName", "PatientID", "IssuerOfPatientID", "StudyID", "AccessionNumber")
"""By these an archive finds patient and order: copied as they are, even if they are longer than the standard allows."""

# fmt: off
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)
# fmt: on
"""Must be present in every derived object, empty if unknown."""

_SEXES = ("M", "F", "O", "")
"""Patient's Sex as the standard has it: the "W" of a German form is none of them."""

_ASCII, _UTF_8 = "ISO 2022 IR 6", "ISO_IR 192"
_ALONE, _EXTENSION = "ISO_IR ", "ISO 2022 IR "
"""How the terms of a character set begin that stands alone, and of one among several."""

_MULTI_BYTE = tuple(f"{_EXTENSION}{number}" for number in (58, 87, 149, 159))
"""Chinese, Japanese and Korean: never the first of several."""


@dataclass(frozen=True)
class SourceSlice:
    """The instance, and for a multi-frame instance the frame, behind one plane of the label map.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid : str
    frame_number : int or None
        Counted from 1; None for a single-frame instance.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None

    def reference(self) -> Dataset:
        """Give the reference to the instance alone."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class_uid
        item.ReferencedSOPInstanceUID = self.sop_instance_uid
        return item


@dataclass(frozen=True)
class SourceSeries:
    """A source series as derived objects refer to it.

    Parameters
    ----------
    common : Dataset
        Patient, study and equipment attributes that are valid, type-2 ones present.
    character_sets : tuple of str
        Specific Character Set in which their texts can be written; empty for the default one.
    study_uid, series_uid, frame_of_reference_uid : str
    series_number : int
        0 if the source has none.
    laterality : str
        ``"R"``, ``"L"`` or empty.
    slices : tuple of SourceSlice
        ``slices[k]`` is plane ``[:, :, k]`` of the label map.
    voxel_to_lps : ndarray of float64, shape (4, 4)
        Voxel index (column, row, slice) to DICOM patient mm.
    slice_thickness : float
        Nominal thickness, mm; the spacing of the slices if the source does not say.
    """

    common: Dataset
    character_sets: tuple[str, ...]
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    series_number: int
    laterality: str
    slices: tuple[SourceSlice, ...]
    voxel_to_lps: NDArray[np.float64]
    slice_thickness: float

    def instances(self) -> tuple[SourceSlice, ...]:
        """One entry for each referenced instance, in slice order."""
        return tuple({item.sop_instance_uid: item for item in self.slices}.values())

    def position(self, plane: int) -> list[DSfloat]:
        """Image Position (Patient) of a plane, LPS mm."""
        return _decimal_strings(self.voxel_to_lps[:3, :3] @ (0, 0, plane) + self.voxel_to_lps[:3, 3])

    def orientation(self) -> list[DSfloat]:
        """Image Orientation (Patient): direction of increasing columns, then of increasing rows."""
        axes = self.voxel_to_lps[:3, :2] / np.linalg.norm(self.voxel_to_lps[:3, :2], axis=0)
        return _decimal_strings(axes.T.ravel())

    def spacing(self) -> tuple[float, float, float]:
        """Spacing between columns, rows and slices, mm; that of tilted slices is along their normal."""
        across, down, step = self.voxel_to_lps[:3, :3].T
        x, y = np.linalg.norm(across), np.linalg.norm(down)
        return float(x), float(y), float(abs(np.cross(across, down) @ step) / (x * y))

    def new_series_number(self, offset: int) -> int:
        """A series number for a derived series: that of the source plus `offset`, so that results sort behind it."""
        return (self.series_number + offset) % (2**31 - 1)


def read_source(segmentation: Segmentation) -> SourceSeries:
    """Read what a DICOM result needs from the headers of the source series.

    Parameters
    ----------
    segmentation : Segmentation
        Its source must be a `DicomSeries` on the same grid as the label map.

    Returns
    -------
    SourceSeries

    Raises
    ------
    OutputError
        If the source is no DICOM series, has no positions or UIDs of its own to refer to, or does not lie on the grid
        of the label map.
    UnreadableFileError
        If a source file cannot be read any more.
    """
    series = segmentation.source
    if not isinstance(series, DicomSeries):
        raise OutputError(
            f"{series.path}: is not a DICOM series, which DICOM results must refer to.",
            hint="Use nifti, nrrd or segnrrd, or give the DICOM series.",
            reason="needs-dicom",
        )
    check_slices(series, segmentation.affine, segmentation.label_map.shape[2])
    ras_to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    first = _read_header(series.slices[0], only=None)
    common = _common(first)
    groups = _functional_groups(first, series.slices[0].frame)
    own = f"{segmentation.provenance} {segmentation.labels}"
    headers = _read_all(series, first)
    slices = tuple(_describe_slice(item, headers) for item in series.slices)
    check_references(series, [item.sop_instance_uid for item in slices])
    return SourceSeries(
        common=common,
        character_sets=_character_sets(first, common, own),
        study_uid=series.study_uid or str(first.get("StudyInstanceUID", "")) or derived_uid(series.series_uid, "study"),
        series_uid=series.series_uid,
        frame_of_reference_uid=_frame_of_reference(list(headers.values()), series),
        series_number=_integer(first.get("SeriesNumber")),
        laterality=_laterality(first, groups),
        slices=slices,
        voxel_to_lps=ras_to_lps @ segmentation.affine,
        slice_thickness=_slice_thickness(first, groups, segmentation.spacing[2]),
    )


def _read_all(series: DicomSeries, first: Dataset) -> dict[tuple[str, str | None], Dataset]:
    """The few attributes that are needed of every instance, read once a file."""
    wanted = ["SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID", "NumberOfFrames"]
    headers = {(str(series.slices[0].path), series.slices[0].member): first}
    for item in series.slices:
        key = (str(item.path), item.member)
        if key not in headers:
            headers[key] = _read_header(item, only=wanted)
    return headers


def _read_header(item: DicomSlice, only: list[str] | None) -> Dataset:
    try:
        with item.open() as stream:
            return dcmread(stream, stop_before_pixels=True, force=True, specific_tags=only)
    except (OSError, InvalidDicomError, EOFError, ValueError, NotImplementedError) as error:
        raise UnreadableFileError(f"{item}: cannot be read: {type(error).__name__}.") from error


def _describe_slice(item: DicomSlice, headers: dict[tuple[str, str | None], Dataset]) -> SourceSlice:
    header = headers[(str(item.path), item.member)]
    sop_class_uid = str(header.get("SOPClassUID", "") or CT_IMAGE_STORAGE)
    # A single-frame object may say that it has 1 frame, which it must not be referred to by.
    has_frames = sop_class_uid in _MULTI_FRAME_CLASSES or _integer(header.get("NumberOfFrames")) > 1
    return SourceSlice(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=item.sop_instance_uid or str(header.get("SOPInstanceUID", "")),
        frame_number=item.frame + 1 if item.frame is not None and has_frames else None,
    )


def _frame_of_reference(headers: list[Dataset], series: DicomSeries) -> str:
    """The most common UID, the first of equals; one derived from the series if there is none at all."""
    found = Counter(uid for uid in (str(header.get("FrameOfReferenceUID", "") or "") for header in headers) if uid)
    return found.most_common(1)[0][0] if found else derived_uid(series.series_uid, "frame-of-reference")


def _common(first: Dataset) -> Dataset:
    common = Dataset()
    for keyword in _COPIED:
        if keyword in first and _is_valid(first, keyword):
            common[keyword] = first[keyword]
    for keyword in _TYPE_2:
        if keyword not in common:
            setattr(common, keyword, "")
    if not common.get("Modality"):
        common.Modality = "CT"
    return common


def _character_sets(header: Dataset, common: Dataset, own: str) -> tuple[str, ...]:
    """The character sets of the source in terms that the standard allows; Unicode if there are none for them.

    The default one is ASCII. Writers that forget to state another are read as Latin-1, and then its letters need one.
    So do letters in `own`, the texts of the model and its labels, which the source's character sets need not have.
    """
    if not own.isascii():
        return (_UTF_8,)
    terms = _stated_character_sets(header)
    return terms if terms or all(str(element.value).isascii() for element in common) else (_UTF_8,)


def _stated_character_sets(header: Dataset) -> tuple[str, ...]:
    stated = header.get("SpecificCharacterSet") or ""
    first, *others = [str(term).strip() for term in ([stated] if isinstance(stated, str) else stated)]
    terms = [first or _ASCII, *filter(None, others)]  # an empty first term stands for ASCII
    if len(terms) == 1 and terms[0] not in _MULTI_BYTE:
        alone = terms[0].replace(_EXTENSION, _ALONE)
        if alone == f"{_ALONE}6":
            return ()
        return (alone,) if alone.startswith((_ALONE, "GB")) and alone in python_encoding else (_UTF_8,)
    terms = [term.replace(_ALONE, _EXTENSION) for term in terms]
    if terms[0] in _MULTI_BYTE:
        terms.insert(0, _ASCII)
    are_known = all(term.startswith(_EXTENSION) and term in python_encoding for term in terms)
    return tuple(terms) if are_known else (_UTF_8,)


def _is_valid(header: Dataset, keyword: str) -> bool:
    """Whether a value may be copied; identifiers may as soon as they can be read."""
    try:
        element = header[keyword]
        if keyword in _IDENTIFIERS:
            return True
        if element.VM > 1 and dictionary_VM(keyword) == "1":
            return False
        values = [str(value) for value in (element.value if element.VM > 1 else [element.value])]
        for value in values:
            validate_value(element.VR, value, config.RAISE)
            # A range may stand in a query, and 30 February has the form of a day.
            {"DA": DA, "TM": TM}.get(element.VR, str)(value)
        return keyword != "PatientSex" or values[0] in _SEXES
    except (ValueError, TypeError, OverflowError, NotImplementedError):
        return False


def _functional_groups(header: Dataset, frame: int | None) -> list[Dataset]:
    """The functional groups of a frame of an enhanced object, shared ones first."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    own = per_frame[frame : frame + 1] if frame is not None else []
    return [*(header.get("SharedFunctionalGroupsSequence") or []), *own]


def _laterality(header: Dataset, groups: list[Dataset]) -> str:
    """The side that the header states; Frame Laterality stands in the functional groups of enhanced objects."""
    candidates = [header.get("ImageLaterality"), header.get("Laterality")]
    for group in groups:
        candidates += [item.get("FrameLaterality") for item in group.get("FrameAnatomySequence") or []]
    return next((str(value) for value in candidates if value in ("R", "L")), "")


def _slice_thickness(header: Dataset, groups: list[Dataset], spacing: float) -> float:
    candidates = [header.get("SliceThickness")]
    for group in groups:
        candidates += [item.get("SliceThickness") for item in group.get("PixelMeasuresSequence") or []]
    for value in candidates:
        try:
            if value is not None and 0 < float(value) < math.inf:
                return float(value)
        except (TypeError, ValueError):
            continue
    return spacing


def _integer(value: object) -> int:
    try:
        return max(0, int(str(value)))
    except ValueError:
        return 0


def _decimal_strings(values: NDArray[np.float64]) -> list[DSfloat]:
    # 1e-9 mm removes the noise of the multiplication, -0.0 included.
    return [DSfloat(round(float(value), 9) + 0.0, auto_format=True) for value in values]
