"""Data sets of simulated cases: one folder, one datalist, resumable after a stop at any moment.

OUT/images/case_0001.nii.gz       the volume, or a folder case_0001 of DICOM files
OUT/labels/case_0001.nii.gz       1 is tumour
OUT/tissues/case_0001.nii.gz      the full tissue map
OUT/parameters/case_0001.json     every sampled number; written last, so it marks a finished case
OUT/datalist.json                 Decathlon style, relative paths
OUT/recipe.json                   settings and seed, written first
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DeviceMemoryError, OutputError, UsageError
from .case import SimulatedCase, simulate_case
from .dicom import write_dicom_case
from .settings import SIMULATOR_VERSION, SimulationSettings

SEEDS_PER_SET = 1_000_000
"""Case seeds of two data set seeds never meet below this many cases."""


@dataclass(frozen=True)
class DatasetPlan:
    """What to write where.

    Parameters
    ----------
    folder : Path
        Made if missing.
    count : int
        Number of cases.
    seed : int
        Of the data set; case i (from 1) has seed ``seed * 1_000_000 + i`` whatever the count.
    settings : SimulationSettings
        Ranges of the cases.
    split : str
        Key of the datalist that lists the cases, ``training`` as a rule.
    file_format : str
        ``nifti`` or ``dicom``, of the volumes; label and tissue maps are always NIfTI.
    """

    folder: Path
    count: int
    seed: int
    settings: SimulationSettings
    split: str = "training"
    file_format: str = "nifti"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed: {self.seed} found, 0 or more expected.")
        if self.file_format not in ("nifti", "dicom"):
            raise UsageError(f"file_format: {self.file_format!r} found, nifti or dicom expected.")

    def case_seed(self, number: int) -> int:
        """Return the seed of case `number`, counted from 1."""
        return self.seed * SEEDS_PER_SET + number


def simulate_dataset(plan: DatasetPlan, *, jobs: int = 1, on_case: Callable[[str, bool], None] | None = None) -> Path:
    """Write all cases that are not there yet, then the datalist of every complete case in the folder.

    Parameters
    ----------
    plan : DatasetPlan
        What to write where.
    jobs : int
        Processes; the result does not depend on it.
    on_case : callable, optional
        Called with the case's name and whether it was made now (False: it was there).

    Returns
    -------
    Path
        The datalist.

    Raises
    ------
    OutputError
        The folder holds cases of another recipe or cannot be written, or a process was killed.
    DeviceMemoryError
        A case does not fit into memory.
    """
    _check_folder(plan)
    missing = [number for number in range(1, plan.count + 1) if not _is_complete(plan, case_name(number))]
    for number in sorted(set(range(1, plan.count + 1)) - set(missing)):
        if on_case:
            on_case(case_name(number), False)
    for number in _write_all(plan, missing, jobs):
        if on_case:
            on_case(case_name(number), True)
    return _write_datalist(plan)


KINDS = ("images", "labels", "tissues", "parameters")
"""Folders of a data set."""


def case_name(number: int) -> str:
    """Return the file stem of a case, counted from 1."""
    return f"case_{number:04d}"


def write_case(case: SimulatedCase, folder: Path, name: str, *, file_format: str = "nifti") -> None:
    """Write one case with its maps and parameters; every file or series appears whole or not at all."""
    if file_format == "dicom":
        write_dicom_case(case, folder / "images" / name)
    else:
        _write_nifti(case.volume_hu, case.affine, folder / "images" / f"{name}.nii.gz")
    _write_nifti(case.label_map, case.affine, folder / "labels" / f"{name}.nii.gz")
    _write_nifti(case.tissue_map, case.affine, folder / "tissues" / f"{name}.nii.gz")
    write_parameters(case, _parameters_path(folder, name))


def write_parameters(case: SimulatedCase, path: Path) -> None:
    """Write every sampled number of a case as JSON."""
    _write_text(path, json.dumps(case.parameters, indent=1))


def _write_all(plan: DatasetPlan, numbers: list[int], jobs: int) -> Iterable[int]:
    if jobs <= 1 or len(numbers) <= 1:
        for number in numbers:
            yield _write_one(plan, number)
        return
    # Spawned workers: forked ones inherit torch's thread pool in an unusable state.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        try:
            yield from pool.map(_write_one, [plan] * len(numbers), numbers)
        except BrokenProcessPool as error:
            raise OutputError(
                f"{plan.folder}: one of {jobs} processes was killed, most likely because memory ran out.",
                hint="Repeat the command with fewer --jobs: it continues where it was.",
                reason="process-killed",
            ) from error


def _start_worker() -> None:
    torch.set_num_threads(1)
    os.environ["NUMBA_NUM_THREADS"] = "1"  # read when numba is first imported, later than this
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this a worker whose parent was killed makes the cases that wait for it, and then stays for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write_one(plan: DatasetPlan, number: int) -> int:
    try:
        case = simulate_case(plan.case_seed(number), settings=plan.settings)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # what PyTorch says
            raise
        raise DeviceMemoryError(
            f"{plan.folder}: {case_name(number)} does not fit into memory.",
            hint="Choose a larger --spacing, a smaller --size or fewer --jobs.",
        ) from error
    try:
        write_case(case, plan.folder, case_name(number), file_format=plan.file_format)
    except OSError as error:
        raise OutputError(f"{plan.folder}: {case_name(number)} cannot be written ({error.strerror}).") from error
    return number


def _check_folder(plan: DatasetPlan) -> None:
    """A folder continues only the recipe and seed it was begun with; a recipe that made no case is replaced."""
    path = plan.folder / "recipe.json"
    wanted = _recipe(plan)
    try:
        for name in ("recipe.json", "datalist.json"):
            if (plan.folder / name).is_dir():
                raise OutputError(
                    f"{plan.folder / name}: is a folder, expected a file.", hint="Name another folder or remove it."
                )
        found = _read_recipe(path)
        if found is None:
            _refuse_other_files(plan.folder)
        elif found != wanted and _holds_cases(plan.folder):
            raise OutputError(
                f"{plan.folder}: holds cases of another seed, recipe or simulator version.",
                hint="Name another folder or repeat the options.",
            )
        for kind in KINDS:
            (plan.folder / kind).mkdir(parents=True, exist_ok=True)
        if found != wanted:
            _write_text(path, json.dumps(wanted, indent=1))
    except OSError as error:
        raise _cannot_write(plan.folder, error) from error


def _recipe(plan: DatasetPlan) -> dict[str, Any]:
    """What all cases of a folder have in common, as JSON gives it back."""
    facts = {"simulator_version": SIMULATOR_VERSION, "seed": plan.seed, "format": plan.file_format}
    return dict(json.loads(json.dumps({**facts, "settings": plan.settings.as_dict()})))


def _read_recipe(path: Path) -> dict[str, Any] | None:
    """Return the recipe of a folder, or None if it has none; a setting that is younger has its default."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        found = None
    is_ours = isinstance(found, dict) and "simulator_version" in found and isinstance(found.get("settings"), dict)
    if not is_ours:
        raise OutputError(
            f"{path}: damaged or of another program, expected the recipe of simulated cases in JSON.",
            hint="Name another folder.",
        )
    defaults = json.loads(json.dumps(SimulationSettings().as_dict()))
    return {**found, "settings": {**defaults, **found["settings"]}}


def _holds_cases(folder: Path) -> bool:
    """Whether a case was finished here: its parameters come last, and the datalist behind all."""
    return (folder / "datalist.json").exists() or any((folder / "parameters").glob("case_*.json"))


def _refuse_other_files(folder: Path) -> None:
    """Without a recipe nothing here is ours to replace."""
    found = [name for name in (*KINDS, "datalist.json") if (folder / name).is_file() or _is_filled(folder / name)]
    if found:
        raise OutputError(
            f"{folder}: holds {', '.join(found)} without a recipe.json, expected a new folder or simulated cases.",
            hint="Name another folder.",
        )


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_complete(plan: DatasetPlan, name: str) -> bool:
    files = [plan.folder / path for path in _entry(plan, name).values()]
    return all(path.exists() for path in (*files, _parameters_path(plan.folder, name)))


def _complete_cases(plan: DatasetPlan) -> list[str]:
    """Names of all complete cases of the folder, those of a larger count too, in their order."""
    stems = [path.stem.removeprefix("case_") for path in (plan.folder / "parameters").glob("case_*.json")]
    names = [case_name(number) for number in sorted({int(stem) for stem in stems if stem.isdecimal()})]
    return [name for name in names if _is_complete(plan, name)]


def _entry(plan: DatasetPlan, name: str) -> dict[str, str]:
    """Return what the datalist says of a case."""
    suffix = "" if plan.file_format == "dicom" else ".nii.gz"
    return {"image": f"images/{name}{suffix}", "label": f"labels/{name}.nii.gz", "tissue": f"tissues/{name}.nii.gz"}


def _write_datalist(plan: DatasetPlan) -> Path:
    path = plan.folder / "datalist.json"
    content = {
        "name": f"simulated breast CT, recipe {plan.settings.name}",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "tumour"},
        plan.split: [_entry(plan, name) for name in _complete_cases(plan)],
    }
    try:
        _write_text(path, json.dumps(content, indent=1))
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written ({error.strerror}).", hint="Name another folder.")


def _parameters_path(folder: Path, name: str) -> Path:
    return folder / "parameters" / f"{name}.json"


def _write_nifti(array: NDArray[np.generic], affine: NDArray[np.float64], path: Path) -> None:
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with _part_of(path) as part:
        nibabel.save(image, part)


def _write_text(path: Path, text: str) -> None:
    with _part_of(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Give a hidden sibling to write to; it becomes `path` when the block ends, and is gone if the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name must end in .nii.gz for nibabel to compress it.
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
