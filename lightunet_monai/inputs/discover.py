"""Which volumes are at a path, from headers alone.

sources = discover_sources("study/")
survey("study/").set_aside          # what is there too, and why it is no source
"""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AmbiguousSeriesError, InputError, NoImageFoundError, UnreadableFileError, UnsupportedImageError
from ..sources import DicomSeries, DicomSlice, ImageFile, ImageSource, StoredPixels, folder_of
from .clusters import FoundPlane
from .element_scan import BlankFileError, NotDicomError
from .files import (
    ARCHIVE_REASON,
    FOLDER_REASON,
    READ_ERRORS,
    RIGHTS_HINT,
    Candidate,
    FoundFiles,
    find_files,
    may_be_a_slice,
    slice_suffix,
)
from .geometry import to_tuple
from .headers import InstanceHeader, read_header
from .image2d_pixels import why_not_ct
from .kinds import CT_CLASSES, DicomFile, SetAside, is_derived, why_not_a_slice
from .pixels import check_storage, hash_stored_pixels
from .planes import Plane
from .split import Stack, split_series

Progress = Callable[[int, int], None]
"""Called with (headers read, headers in all)."""

_THREADS = min(8, (os.cpu_count() or 1) + 2)
_PROGRESS_EVERY = 50
_NAMED = 3
"""How many of the refused archives a warning names; `Survey.set_aside` lists them all."""


@dataclass(frozen=True)
class Survey:
    """Everything that was found at a path.

    Parameters
    ----------
    sources : tuple of ImageSource
        Volumes, usable or not; a `DicomSeries` that is not usable carries its ``problem``.
    set_aside : tuple of SetAside
        What is no volume, and why.
    errors : tuple of InputError
        Archives, folders and files that were refused.
    """

    sources: tuple[ImageSource, ...]
    set_aside: tuple[SetAside, ...]
    errors: tuple[InputError, ...] = ()

    @property
    def refused_archives(self) -> dict[Path, InputError]:
        """Archives that were refused, each with the (first) reason; nothing in them is among the sources."""
        places = {item.reason: Path(item.what) for item in self.set_aside if item.code.startswith(ARCHIVE_REASON)}
        refused: dict[Path, InputError] = {}
        for error in self.errors:
            if error.message in places:  # a refusal is set aside under its message, too
                refused.setdefault(places[error.message], error)
        return refused


def discover_sources(path: str | os.PathLike[str], *, progress: Progress | None = None) -> list[ImageSource]:
    """Find the volumes at a path: NIfTI, NRRD and MetaImage files, and the volumes of DICOM series.

    Parameters
    ----------
    path : path
        A folder of any depth, a file, a zip archive or a DICOMDIR.
    progress : callable, optional
        Called with (headers read, headers in all).

    Returns
    -------
    list of ImageSource
        Sorted by path and series; a `DicomSeries` has its slices in slice order, shape and affine where
        positions give them, else a ``problem``.

    Raises
    ------
    NoImageFoundError
        If there is no volume at the path.
    UnreadableFileError
        If all there is is an archive or a file that is refused.
    UnsupportedImageError
        If there are DICOM images, but none that can be a slice of a volume.
    """
    found = survey(path, progress=progress)
    if not found.sources:
        raise why_no_source(found, Path(path))
    return list(found.sources)


def why_no_source(found: Survey, path: Path) -> InputError:
    """The error that says why a survey found no volume."""
    if found.errors:
        return found.errors[0]
    if picture := why_not_ct(path):
        return picture
    kinds: Counter[str] = Counter()
    for item in found.set_aside:
        if item.code != "not-dicom":
            kinds[item.reason] += item.count
    if kinds:
        listed = "; ".join(f"{count} x {reason}" for reason, count in kinds.most_common(4))
        return UnsupportedImageError(
            f"{path}: no CT volume, found {listed}.",
            hint="Give the folder with the CT slices; for one ultrasound image add --model ultrasound.",
            reason="no-volume",
        )
    return NoImageFoundError(f"{path}: no DICOM, NIfTI, NRRD or MetaImage volume.", hint="Check the path.")


def survey(path: str | os.PathLike[str], *, progress: Progress | None = None) -> Survey:
    """Find everything at a path; like `discover_sources`, with what was set aside.

    Raises
    ------
    NoImageFoundError
        If the path does not exist.
    """
    found = find_files(Path(path))
    files, errors = _read_headers(found, progress)
    slices, aside = _set_objects_aside(files)
    series = []
    for (_, _, number), planes in _group(slices).items():
        volumes, strays = _volumes(planes, planes[0].file.header.series_uid, number)
        series += volumes
        aside += strays
    images = [ImageFile(path) for path in found.images]
    return Survey(
        sources=(*images, *sorted(_with_damage_warnings(series, errors, found), key=_sort_key)),
        set_aside=tuple(found.set_aside + aside),
        errors=tuple(found.errors + errors),
    )


def complete_series(series: DicomSeries) -> DicomSeries:
    """The series with the header facts that reading needs; itself, if `discover_sources` made it.

    Raises
    ------
    UnreadableFileError
        If one of its files is damaged or no DICOM, or a slice is not there.
    UnsupportedImageError
        If one of its files holds no slice of a volume.
    AmbiguousSeriesError
        If the slices are those of several volumes.
    """
    if series.slices and all(item.pixels is not None for item in series.slices) and _is_judged(series):
        return series
    wanted = {(item.path, item.member, item.frame or 0) for item in series.slices}
    candidates = list(dict.fromkeys(Candidate(item.path, item.member) for item in series.slices))
    files, errors = _read_headers(FoundFiles(candidates, [], [], []), None)
    if errors or not files or len(files) < len(candidates):
        raise errors[0] if errors else UnreadableFileError(f"{series.name}: its files are no DICOM files.")
    files, aside = _set_objects_aside(files)
    if aside:
        raise UnsupportedImageError(
            f"{series.name}: {aside[0].reason}, expected slices only.",
            hint="Take one of the series that discover_sources finds.",
            reason=aside[0].code,
        )
    planes = [FoundPlane(file, plane) for file in files for plane in file.header.planes]
    planes = [item for item in planes if (item.file.path, item.file.member, item.plane.frame or 0) in wanted]
    if len(planes) < len(wanted):
        raise UnreadableFileError(f"{series.name}: {len(planes)} of {len(wanted)} slices are in its files.")
    volumes, _ = _volumes(planes, series.series_uid, 0)
    named = [volume for volume in volumes if volume.volume_key == series.volume_key]
    if len(volumes) > 1 and len(named) != 1:
        found = ", ".join(volume.volume_key for volume in volumes)
        raise AmbiguousSeriesError(
            f"{series.name}: its slices are {len(volumes)} volumes, expected 1: {found}.",
            hint="Take one of those that discover_sources finds.",
        )
    return (named if len(volumes) > 1 else volumes)[0]


def _is_judged(series: DicomSeries) -> bool:
    return series.problem is not None or series.affine is not None


def _read_headers(found: FoundFiles, progress: Progress | None) -> tuple[list[DicomFile], list[InputError]]:
    """Read all headers in parallel; files that are not DICOM are set aside, damaged ones are errors."""
    archives = _open_archives(found.candidates)
    files: list[DicomFile] = []
    errors: list[InputError] = []
    blank = [(Candidate(path), "the file is not where the folder says, as behind a broken link") for path in found.lost]

    def read(item: Candidate) -> InstanceHeader | InputError | NotDicomError:
        try:
            return _read_one(item, archives)
        except NotDicomError as error:
            return error
        except UnreadableFileError as error:
            if item.name.upper() == "DICOMDIR":  # a hint only: the files are found without it
                return NotDicomError()
            return UnreadableFileError(f"{item}: {error.message}", hint=error.hint, reason=error.reason)

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for number, (item, result) in enumerate(
                zip(found.candidates, pool.map(read, found.candidates), strict=True), start=1
            ):
                if isinstance(result, InstanceHeader):
                    files.append(DicomFile(item.path, item.member, result))
                elif isinstance(result, InputError):
                    errors.append(result)
                    found.set_aside.append(SetAside(str(item.path), 1, result.reason, result.message))
                elif isinstance(result, BlankFileError):
                    blank.append((item, str(result)))
                else:
                    found.set_aside.append(SetAside(str(item.path), 1, "not-dicom", "not a DICOM file"))
                if progress and (number % _PROGRESS_EVERY == 0 or number == len(found.candidates)):
                    progress(number, len(found.candidates))
    finally:
        for archive in archives.values():
            archive.close()
    return files, errors + _lost_slices(blank, files, found)


def _lost_slices(
    blank: Iterable[tuple[Candidate, str]], files: Iterable[DicomFile], found: FoundFiles
) -> list[InputError]:
    """Errors for the blank files that were slices by their names; the others are set aside."""
    suffixes = {slice_suffix(Candidate(file.path, file.member).name) for file in files}
    errors: list[InputError] = []
    for item, what in blank:
        if may_be_a_slice(item.name, suffixes):
            error = UnreadableFileError(
                f"{item}: {what}, expected a DICOM header.", hint="Copy or export the file again."
            )
            errors.append(error)
            found.set_aside.append(SetAside(str(item.path), 1, error.reason, error.message))
        else:
            found.set_aside.append(SetAside(str(item.path), 1, "not-dicom", "not a DICOM file"))
    return errors


def _open_archives(candidates: Iterable[Candidate]) -> dict[Path, zipfile.ZipFile]:
    """Each archive once: to open one is to read its whole directory. One that is gone is missing here."""
    archives: dict[Path, zipfile.ZipFile] = {}
    for path in dict.fromkeys(item.path for item in candidates if item.member is not None):
        with contextlib.suppress(ValueError, *READ_ERRORS):
            archives[path] = zipfile.ZipFile(path)
    return archives


def _read_one(item: Candidate, archives: dict[Path, zipfile.ZipFile]) -> InstanceHeader:
    try:
        if item.member is not None:
            if item.path not in archives:
                raise UnreadableFileError("the archive cannot be opened.", hint="Check the path.", reason="archive")
            with archives[item.path].open(item.member) as member:
                return read_header(member)
        # Unbuffered: the scanner asks for the header in one piece.
        with open(item.path, "rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            return read_header(stream, file_bytes=status.st_size, modified_ns=status.st_mtime_ns)
    except READ_ERRORS as error:
        hint = RIGHTS_HINT if isinstance(error, PermissionError) else ""
        raise UnreadableFileError(f"cannot be read: {type(error).__name__}.", hint=hint) from None


def _set_objects_aside(files: Iterable[DicomFile]) -> tuple[list[DicomFile], list[SetAside]]:
    """Set aside what cannot be a slice; files, counted by series and reason."""
    slices, counts = [], Counter[tuple[str, str, str]]()
    for file in files:
        if reason := why_not_a_slice(file.header):
            what = f"Series {file.header.series_uid}" if file.header.series_uid else str(file)
            key = (what, *reason)
            counts[key] += 1
        else:
            slices.append(file)
    return slices, [SetAside(what, count, code, reason) for (what, code, reason), count in counts.items()]


def _group(files: Sequence[DicomFile]) -> dict[tuple[str, str, int], list[FoundPlane]]:
    """Planes by patient and series; the number tells patients apart who share a series UID."""
    patients: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file.header.patient_hash not in patients[_series_of(file)]:
            patients[_series_of(file)].append(file.header.patient_hash)
    groups: dict[tuple[str, str, int], list[FoundPlane]] = defaultdict(list)
    for file in files:
        series, patient = _series_of(file), file.header.patient_hash
        number = patients[series].index(patient) + 1 if len(patients[series]) > 1 else 0
        groups[(patient, series, number)] += [FoundPlane(file, plane) for plane in file.header.planes]
    return groups


def _series_of(file: DicomFile) -> str:
    """The series UID; where there is none, what is left to tell series apart: the study and the folder."""
    header = file.header
    return header.series_uid or f"{header.study_uid} {folder_of(file.path, file.member)}"


def _volumes(planes: list[FoundPlane], uid: str, patient: int) -> tuple[list[DicomSeries], list[SetAside]]:
    what = f"Series {uid}" if uid else f"{planes[0].file.path.parent}"
    stacks, strays = split_series(planes, what, lambda item: hash_stored_pixels(_slice(item)))
    study_uids = {item.file.header.study_uid for item in planes}
    warnings: tuple[str, ...] = (f"{what}: {len(study_uids)} study UIDs in one series.",) if len(study_uids) > 1 else ()
    if not uid:
        warnings += (f"{what}: no Series Instance UID; DICOM results cannot refer to the series.",)
    return [_series(stack, what, patient, warnings) for stack in stacks], strays


def _series(stack: Stack, what: str, patient: int, warnings: tuple[str, ...]) -> DicomSeries:
    header = stack.planes[0].file.header
    modality = header.modality or ("CT" if header.sop_class in CT_CLASSES else "")
    if not header.modality:
        warnings += (f"{what}: no modality in the header, taken as {modality or 'unknown'}.",)
    derived = all(is_derived(item.file.header) for item in stack.planes)
    if derived:
        warnings += (f"{what}: Image Type says the volume was derived from other images.",)
    problem = stack.problem
    if modality != "CT":
        problem = UnsupportedImageError(
            f"{what}: modality {modality or 'unknown'}, expected CT.", hint=_modality_hint(modality), reason="modality"
        )
    slices = tuple(map(_slice, stack.planes))
    kernel = stack.planes[0].plane.keys.get("kernel", "")
    label = stack.label or (f"kernel {kernel}" if kernel else "")
    return DicomSeries(
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        slices=slices,
        modality=modality,
        description=", ".join(filter(None, (f"patient {patient}" if patient else "", label))),
        shape=stack.grid.shape if stack.grid else None,
        affine=to_tuple(stack.grid.affine) if stack.grid else None,
        volume_key="-".join(filter(None, (f"patient{patient}" if patient else "", stack.key))),
        warnings=(*warnings, *stack.warnings),
        problem=problem or _storage_problem(slices),
        is_derived=derived,
        shares_instance_uids=stack.shares_instance_uids,
    )


def _modality_hint(modality: str) -> str:
    return "For one ultrasound image add --model ultrasound." if modality == "US" else "Choose a CT series."


def _with_damage_warnings(
    series: Sequence[DicomSeries], errors: Sequence[InputError], files: FoundFiles
) -> list[DicomSeries]:
    """What cannot be read hides a slice: at the end of a series nothing else would show that it is missing."""
    folders = sum(error.reason == FOLDER_REASON for error in files.errors)
    archives = list(dict.fromkeys(item.what for item in files.set_aside if item.code.startswith(ARCHIVE_REASON)))
    shown = ", ".join([*archives[:_NAMED], *(["..."] if len(archives) > _NAMED else [])])
    suffixes = {slice_suffix(part.path.name) for item in series for part in item.slices}
    aside = [Path(item.what).name for item in files.set_aside if item.code == "link-outside"]
    links = sum(may_be_a_slice(name, suffixes) for name in aside)
    found = (
        (len(errors), "damaged DICOM files were left out"),
        (folders, "folders could not be opened"),
        (len(archives), f"zip archives were refused ({shown})"),
        (links, "symbolic links that leave the folder were left out"),
    )
    texts = [f"{count} {what}; slices may be missing at the ends of the volume." for count, what in found if count]
    return [replace(item, warnings=(*item.warnings, *texts)) for item in series]


def _sort_key(series: DicomSeries) -> tuple[Path, str, list[tuple[int, str]]]:
    """By folder and series; phase 10 behind phase 9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", series.volume_key)
    return series.paths[0].parent, series.series_uid, [(int(part) if part.isdigit() else -1, part) for part in parts]


def _storage_problem(slices: Sequence[DicomSlice]) -> InputError | None:
    try:
        check_storage(slices)
    except InputError as error:
        return error
    return None


def _slice(item: FoundPlane) -> DicomSlice:
    file, plane = item.file, item.plane
    return DicomSlice(
        path=file.path,
        sop_instance_uid=file.header.sop_instance_uid,
        member=file.member,
        frame=plane.frame,
        position=plane.position,
        pixels=_with_rescale(file.header.pixels, plane) if file.header.pixels else None,
    )


def _with_rescale(pixels: StoredPixels, plane: Plane) -> StoredPixels:
    return replace(
        pixels,
        slope=plane.slope,
        intercept=plane.intercept,
        rescale_type=plane.rescale_type,
    )
