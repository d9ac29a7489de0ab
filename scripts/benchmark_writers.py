"""Time, memory and file size of every writer on one large volume, and of highdicom used directly.

python scripts/benchmark_writers.py [--size 512 512 400] [--runs 3] [--only NAME ...] [--json FILE]

Each measurement runs in a process of its own: one warm-up, then the runs; the median counts. Memory is the peak of
the process less what it held before the first call.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lightunet_monai.labels import Code, Label, LabelTable
from lightunet_monai.outputs import FORMATS, Findings, measure_lesions, write_dicom_seg
from lightunet_monai.outputs.formats import Format
from lightunet_monai.segmentation import Provenance, Segmentation
from lightunet_monai.sources import DicomSeries, DicomSlice

SPACING_MM = 0.3
LESIONS = ((0.3, 0.4, 0.35, 0.30), (0.6, 0.6, 0.55, 0.32), (0.75, 0.25, 0.60, 0.33))
"""Centre and half height, as shares of the volume: three masses that together lie in about twice 400 planes."""

MASS = Label(
    1,
    "tumor",
    "Breast mass",
    (220, 40, 40),
    Code("SCT", "49755003", "Morphologically Altered Structure"),
    Code("SCT", "4147007", "Mass"),
    Code("SCT", "76752008", "Breast"),
)


def make_headers(folder: Path, size: tuple[int, int, int]) -> DicomSeries:
    """Header-only CT files: writers of results never read a pixel of the source."""
    slices = []
    for plane in range(size[2]):
        uid, position = f"2.25.5.{plane + 1}", (-76.8, -76.8, plane * SPACING_MM)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = uid
        header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, uid
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = "2.25.2", "2.25.3", "2.25.4"
        header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = "", "bench", "", ""
        header.StudyDate, header.StudyTime, header.StudyID, header.AccessionNumber = "", "", "", ""
        header.ReferringPhysicianName, header.Modality, header.Manufacturer = "", "CT", "bench"
        header.Columns, header.Rows = size[0], size[1]
        header.PixelSpacing, header.SliceThickness = [SPACING_MM, SPACING_MM], SPACING_MM
        header.ImageOrientationPatient, header.ImagePositionPatient = [1, 0, 0, 0, 1, 0], list(position)
        path = folder / f"{plane:04d}.dcm"
        header.save_as(path, enforce_file_format=True)
        slices.append(DicomSlice(path, uid, position=position))
    return DicomSeries("2.25.3", "2.25.2", tuple(slices), "CT")


def make_segmentation(series: DicomSeries, size: tuple[int, int, int]) -> Segmentation:
    """Three ellipsoids with a soft probability edge."""
    probability = np.zeros(size, dtype=np.float32, order="F")
    x, y, z = np.ogrid[: size[0], : size[1], : size[2]]
    for a, b, c, height in LESIONS:
        radius = 0.08 * size[0]
        distance = ((x - a * size[0]) / radius) ** 2 + ((y - b * size[1]) / radius) ** 2
        distance = distance + ((z - c * size[2]) / (height * size[2])) ** 2
        np.maximum(probability, np.clip(1.5 - distance, 0, 1).astype(np.float32), out=probability)
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = (76.8, 76.8, 0.0)
    provenance = Provenance("benchmark", "1", "0" * 64, "torch", "float32", "cpu")
    label_map = np.asfortranarray((probability > 0.5).astype(np.uint8))
    return Segmentation(label_map, affine, LabelTable((MASS,)), series, provenance, probability)


def highdicom_alone(kind: str, *, cropped: bool) -> Callable[[Segmentation, Path], object]:
    """The same object by highdicom as its documentation shows it, from headers in memory."""
    import highdicom as hd

    def write(segmentation: Segmentation, path: Path) -> object:
        series = segmentation.source
        assert isinstance(series, DicomSeries)
        headers = [pydicom.dcmread(item.path) for item in series.slices]
        values: Any = segmentation.label_map if kind == "BINARY" else segmentation.probability
        planes = np.flatnonzero(values.any(axis=(0, 1))) if cropped else np.arange(values.shape[2])
        description = hd.seg.SegmentDescription(
            1,
            "Mass",
            hd.sr.CodedConcept("49755003", "SCT", "Morphologically Altered Structure"),
            hd.sr.CodedConcept("4147007", "SCT", "Mass"),
            "MANUAL",
        )
        result = hd.seg.Segmentation(
            source_images=[headers[plane] for plane in planes],
            pixel_array=np.ascontiguousarray(values[:, :, planes].transpose(2, 1, 0)),
            segmentation_type=kind,
            segment_descriptions=[description],
            series_instance_uid="2.25.7",
            series_number=1,
            sop_instance_uid="2.25.8",
            instance_number=1,
            manufacturer="bench",
            manufacturer_model_name="bench",
            software_versions="1",
            device_serial_number="1",
            transfer_syntax_uid=pydicom.uid.RLELossless if kind == "FRACTIONAL" else ExplicitVRLittleEndian,
        )
        result.save_as(path)
        return path

    return write


def write_format(item: Format, segmentation: Segmentation, path: Path) -> Path:
    """Write one format by its name."""
    return item.writer(segmentation, path, **item.options)


def writers(findings: Findings, folder: Path) -> dict[str, Callable[[Segmentation, Path], object]]:
    """Every measurement by name."""
    plain = {name: partial(write_format, item) for name, item in FORMATS.items() if name != "sr"}
    seg = folder / "for_sr.dcm"
    return {
        **plain,
        "sr": lambda segmentation, path: FORMATS["sr"].writer(segmentation, findings, seg, path),
        "seg, empty frames kept": lambda segmentation, path: write_dicom_seg(
            segmentation, path, keep_empty_frames=True
        ),
        "highdicom alone, binary": highdicom_alone("BINARY", cropped=False),
        "highdicom alone, fractional, cropped": highdicom_alone("FRACTIONAL", cropped=True),
        "highdicom alone, fractional": highdicom_alone("FRACTIONAL", cropped=False),
        "findings": lambda segmentation, path: path.write_text(json.dumps(measure_lesions(segmentation).to_json())),
    }


def measure(
    name: str, write: Callable[[Segmentation, Path], object], case: Segmentation, folder: Path, runs: int
) -> Any:
    """Median seconds, peak memory and file size of one writer, in a forked process."""
    suffix = "".join(Path(FORMATS[name].file_name).suffixes) if name in FORMATS else ".dcm"
    path = folder / f"result{suffix}"

    def work(pipe: Any) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(runs + 1):
            start, cpu = time.perf_counter(), time.process_time()
            write(case, path)
            times.append((time.perf_counter() - start, time.process_time() - cpu))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, cpu_seconds = (statistics.median(column) for column in zip(*times[1:], strict=True))
        pipe.send({"seconds": wall, "cpu_seconds": cpu_seconds, "memory_mb": (peak - before) / 1024})

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender,))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return {"name": name, **result, "file_mb": path.stat().st_size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 400), metavar=("X", "Y", "Z"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "source").mkdir()
        series = make_headers(folder / "source", tuple(arguments.size))
        case = make_segmentation(series, tuple(arguments.size))
        findings = measure_lesions(case)
        write_dicom_seg(case, folder / "for_sr.dcm")
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{len(findings)} lesions, {int(case.label_map.any(axis=(0, 1)).sum())} of {arguments.size[2]} planes")
        print("| writer | seconds | CPU seconds | memory, MB | file, MB |\n|---|---|---|---|---|")
        rows = []
        for name, write in writers(findings, folder).items():
            if not arguments.only or name in arguments.only:
                row = measure(name, write, case, folder, arguments.runs)
                rows.append(row)
                numbers = (
                    f"{row['seconds']:.2f} | {row['cpu_seconds']:.2f} | {row['memory_mb']:.0f} | {row['file_mb']:.2f}"
                )
                print(f"| {name} | {numbers} |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
