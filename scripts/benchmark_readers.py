"""Time, memory and correctness of reading CT series, beside other readers in the same run.

    python scripts/benchmark_readers.py make /tmp/series            # 512 x 512 x 400, four transfer syntaxes
    python scripts/benchmark_readers.py time /tmp/series --runs 5   # seconds and peak memory, one process a run
    python scripts/benchmark_readers.py survey /tmp/many            # discovery of thousands of files
    python scripts/benchmark_readers.py cases ../shared/data/dicom  # right, refused or wrong, one column a reader

Readers that are not installed are left out. Imports are not counted; files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

Result = tuple[Any, Any]
"""Voxels (X, Y, Z) in HU, and the affine to RAS+ mm."""


def ours_int16(folder: Path) -> Result:
    from lightunet_monai.inputs import choose_series, discover_sources, read_hu

    volume = read_hu(choose_series(discover_sources(folder)))
    return volume.voxels, volume.affine


def ours_float32(folder: Path) -> Result:
    from lightunet_monai.inputs import choose_series, discover_sources, read_hu

    volume = read_hu(choose_series(discover_sources(folder)), dtype="float32")
    return volume.voxels, volume.affine


def ours_tensor(folder: Path) -> Result:
    from lightunet_monai.inputs import choose_series, discover_sources, load_volume

    volume = load_volume(choose_series(discover_sources(folder)))
    return volume[0].numpy(), volume.affine.numpy()


def simpleitk(folder: Path) -> Result:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    series = reader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise ValueError("no series")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series[0]))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayViewFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine, image  # type: ignore[return-value]


def monai_itk(folder: Path) -> Result:
    from monai.data import ITKReader

    return _monai(ITKReader(), folder)


def monai_pydicom(folder: Path) -> Result:
    from monai.data import PydicomReader

    return _monai(PydicomReader(), folder)


def _monai(reader: Any, folder: Path) -> Result:
    array, meta = reader.get_data(reader.read(str(folder)))
    return array, np.asarray(meta["affine"])


def highdicom(folder: Path) -> Result:
    import highdicom
    import pydicom

    datasets = [pydicom.dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    if len(datasets) == 1 and "NumberOfFrames" in datasets[0]:
        volume = highdicom.Image.from_dataset(datasets[0]).get_volume(dtype=np.float32)
    else:
        volume = highdicom.get_volume_from_series(datasets, dtype=np.float32)
    # highdicom: axes slice, row, column; affine to LPS.
    affine = volume.affine[:, [2, 1, 0, 3]]
    return volume.array.T, np.diag([-1, -1, 1, 1]) @ affine


def dicom2nifti(folder: Path) -> Result:
    import dicom2nifti as converter
    import nibabel

    with tempfile.TemporaryDirectory() as out:
        path = Path(out) / "v.nii"
        converter.dicom_series_to_nifti(str(folder), str(path), reorient_nifti=False)
        image = nibabel.load(path)
        return np.asarray(image.dataobj), image.affine


READERS = {
    "lightunet int16": ours_int16,
    "lightunet float32": ours_float32,
    "lightunet MetaTensor": ours_tensor,
    "SimpleITK": simpleitk,
    "MONAI ITKReader": monai_itk,
    "MONAI PydicomReader": monai_pydicom,
    "highdicom float32": highdicom,
    "dicom2nifti": dicom2nifti,
}
IMPORTS = {
    "lightunet int16": "lightunet_monai.inputs.hounsfield",
    "lightunet float32": "lightunet_monai.inputs.hounsfield",
    "lightunet MetaTensor": "lightunet_monai.inputs.volume",
    "SimpleITK": "SimpleITK",
    "MONAI ITKReader": "monai.data",
    "MONAI PydicomReader": "monai.data",
    "highdicom float32": "highdicom",
    "dicom2nifti": "dicom2nifti",
}
SYNTAXES = ("raw", "jpeg-2000", "jpeg-ls", "rle")


def make(arguments: argparse.Namespace) -> None:
    """A smooth object with noise, as hard to compress as a low-dose CT."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.builders.series import make_series

    size, slices = arguments.size, arguments.slices
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    voxels = np.empty((size, size, slices), np.int16)
    for k in range(slices):
        radius = 0.8 * np.sqrt(1 - (0.95 * k / slices) ** 2)
        tissue = np.where(np.sin(9 * x + k / 40) * np.cos(7 * y) > 0.4, 70, -80)
        voxels[:, :, k] = np.where(x * x + y * y < radius * radius, tissue, -1000) + rng.normal(0, 20, x.shape)
    for syntax in SYNTAXES:
        make_series(arguments.folder / syntax, voxels=voxels, spacing=(0.3, 0.3, 0.3), syntax=syntax, change=_number)
        print(arguments.folder / syntax, flush=True)


def _number(index: int, dataset: Any) -> None:
    """Instance numbers in slice order: dicom2nifti relies on them."""
    dataset.InstanceNumber = index + 1


def run_one(arguments: argparse.Namespace) -> None:
    """One reader, one folder, in this process: seconds and peak memory as JSON."""
    import importlib
    import resource

    importlib.import_module(IMPORTS[arguments.reader])
    read = READERS[arguments.reader]
    if arguments.warm_up:
        read(arguments.warm_up)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    result = read(arguments.folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu + children.ru_utime + children.ru_stime,
                "import_mb": before / 1024,
                "peak_mb": peak / 1024,
                "child_mb": children.ru_maxrss / 1024,
                "shape": list(result[0].shape),
                "mean": float(np.asarray(result[0][::4, ::4, ::4], np.float64).mean()),
            }
        )
    )


def time_all(arguments: argparse.Namespace) -> None:
    """Rounds over all readers, so that a busy moment hits all of them; medians."""
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for round_ in range(arguments.runs + 1):
        for syntax in arguments.syntaxes:
            for reader in arguments.readers:
                found = _child("run", reader, str(arguments.folder / syntax), timeout=arguments.timeout)
                if round_:  # the first round warms the page cache
                    results.setdefault((syntax, reader), []).append(found)
                print(round_, syntax, reader, found.get("seconds", found.get("error")), file=sys.stderr, flush=True)
    print(
        "| series | reader | seconds (median) | fastest | CPU s | peak MB | of this before reading | largest child MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (syntax, reader), found in results.items():
        good = [item for item in found if "seconds" in item]
        if not good:
            print(f"| {syntax} | {reader} | {found[0]['error']} | | | | | |")
            continue

        def median(key: str, good: list[dict[str, Any]] = good) -> float:
            return statistics.median(item[key] for item in good)

        times = (median("seconds"), min(item["seconds"] for item in good), median("cpu_seconds"))
        sizes = (median("peak_mb"), median("import_mb"), median("child_mb"))
        cells = [f"{value:.2f}" for value in times] + [f"{value:.0f}" for value in sizes]
        print("| " + " | ".join((syntax, reader, *cells)) + " |")


def _child(*words: str, timeout: float) -> dict[str, Any]:
    environment = _environment()
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, *words],
            capture_output=True, text=True, timeout=timeout, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": "too slow"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        text = done.stderr.strip().splitlines()
        return {"error": text[-1][:100] if text else f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def survey_many(arguments: argparse.Namespace) -> None:
    """Discovery alone, over folders of 1000 to 8000 files."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from lightunet_monai.inputs import discover_sources
    from tests.builders.series import make_series

    for number in range(8):
        if not (arguments.folder / str(number)).exists():
            make_series(arguments.folder / str(number), shape=(64, 64, 1000), series=number)
    for count in (1, 2, 4, 8):
        with tempfile.TemporaryDirectory() as root:
            for number in range(count):
                for path in sorted((arguments.folder / str(number)).iterdir()):
                    os.link(path, Path(root) / f"{number}_{path.name}")
            seconds = []
            for _ in range(4):
                start = time.perf_counter()
                sources = discover_sources(root)
                seconds.append(time.perf_counter() - start)
        print(f"{count * 1000} files, {len(sources)} series: {statistics.median(seconds[1:]):.2f} s")


def cases(arguments: argparse.Namespace) -> None:
    """What each reader makes of each hard study."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.builders.hard_studies import expected_rows

    names = list(dict.fromkeys(row.case for row in expected_rows() if row.expect != "each"))
    verdicts = {reader: _verdicts(reader, arguments.folder, names) for reader in arguments.readers}
    print("| study | expected | " + " | ".join(arguments.readers) + " |")
    print("|---|---|" + "---|" * len(arguments.readers))
    expects = {row.case: row.expect for row in expected_rows()}
    for name in names:
        print(
            f"| {name} | {expects[name]} | " + " | ".join(verdicts[reader][name] for reader in arguments.readers) + " |"
        )
    for word in ("right", "cannot load", "wrong"):
        counts = [sum(v.startswith(word) for v in verdicts[reader].values()) for reader in arguments.readers]
        print(f"| **{word}** | | " + " | ".join(map(str, counts)) + " |")


def _verdicts(reader: str, folder: Path, names: list[str]) -> dict[str, str]:
    """One process for all studies, and a new one after a study that ended it."""
    verdicts: dict[str, str] = {}
    while left := [name for name in names if name not in verdicts]:
        environment = _environment()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "judge", reader, str(folder), *left],
            capture_output=True, text=True, timeout=1200, env=environment, check=False,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                verdicts.update(json.loads(line))
        if len(left) == len([name for name in names if name not in verdicts]):
            verdicts[left[0]] = "wrong: process ended"
        print(reader, len(verdicts), "of", len(names), file=sys.stderr, flush=True)
    return verdicts


def judge(arguments: argparse.Namespace) -> None:
    """Verdicts of one reader, a JSON line each."""
    from tests.builders.hard_studies import expected_rows

    rows: dict[str, list[Any]] = {}
    for row in expected_rows():
        rows.setdefault(row.case, []).append(row)
    for name in arguments.names:
        print(json.dumps({name: _verdict(arguments.reader, arguments.folder / name, rows[name])}), flush=True)


def _verdict(reader: str, path: Path, rows: list[Any]) -> str:
    expect = rows[0].expect
    try:
        result = READERS[reader](path)
    except Exception:  # whatever another reader raises is its refusal
        return "cannot load" if expect == "accept" else "right: refused"
    if expect in ("refuse", "ambiguous"):
        return "wrong: loaded"
    return "right" if _agrees(result, rows[0], path) else "wrong"


def _agrees(result: Any, row: Any, path: Path) -> bool:
    """2000 voxels of the right volume, looked up at their places in the patient."""
    from lightunet_monai.inputs import choose_series, discover_sources, read_hu

    truth = read_hu(choose_series(discover_sources(path)))
    voxels, affine = np.squeeze(np.asarray(result[0])), np.asarray(result[1], np.float64)
    if voxels.ndim != 3 or truth.voxels.shape != row.shape:
        return False
    index = np.random.default_rng(0).integers(0, truth.voxels.shape, (2000, 3))
    world = index @ truth.affine[:3, :3].T + truth.affine[:3, 3]
    found = np.linalg.solve(affine[:3, :3], (world - affine[:3, 3]).T).T
    nearest = np.rint(found).astype(int)
    if np.abs(found - nearest).max() > 0.1 or (nearest < 0).any() or (nearest >= voxels.shape).any():
        return False
    return bool(np.abs(voxels[tuple(nearest.T)] - truth.voxels[tuple(index.T)].astype(np.float64)).max() <= 0.3)


def _environment() -> dict[str, str]:
    """This checkout first, then what the caller put on the path (readers that are installed elsewhere)."""
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    functions = {"make": make, "time": time_all, "run": run_one, "survey": survey_many, "cases": cases, "judge": judge}
    for name, function in functions.items():
        sub = commands.add_parser(name)
        sub.set_defaults(function=function)
        if name in ("run", "judge"):
            sub.add_argument("reader")
        sub.add_argument("folder", type=Path)
        if name == "make":
            sub.add_argument("--size", type=int, default=512)
            sub.add_argument("--slices", type=int, default=400)
        if name == "time":
            sub.add_argument("--runs", type=int, default=3)
            sub.add_argument("--timeout", type=float, default=300)
            sub.add_argument("--syntaxes", nargs="+", default=list(SYNTAXES))
        if name in ("time", "cases"):
            sub.add_argument("--readers", nargs="+", default=list(READERS))
        if name == "run":
            sub.add_argument("--warm-up", type=Path)
        if name == "judge":
            sub.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
