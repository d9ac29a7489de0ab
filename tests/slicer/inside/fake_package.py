"""Speaks like ``python -m lightunet_monai``, in a tenth of a second: for the tests of the window and of failures.

Voxels above 20 HU are lesion; the probability falls off with the intensity. The model ``tissues`` labels the rest as
adipose tissue. Called as ``fake_package.py MODE -m
lightunet_monai COMMAND ...``; the mode chooses what goes wrong.
"""

import gzip
import json
import os
import re
import subprocess
import sys
import time

MODEL = {"name": "fake model", "version": "9.9", "weights_sha256": "ab" * 32}
LABEL = {"value": 1, "name": "tumor", "title": "Breast mass", "color": [230, 60, 60]}
ADIPOSE = {"value": 2, "name": "adipose", "title": "Adipose tissue", "color": [230, 220, 70]}
TERMS = (
    "Segmentation category and type - DICOM master list~SCT^49755003^Morphologically Altered Structure"
    "~SCT^4147007^Mass~^^~Anatomic codes - DICOM master list~SCT^76752008^Breast~^^"
)


def tell(event, schema=1, **values):
    print(json.dumps({"schema": schema, "event": event, **values}), flush=True)


def option(words, name, otherwise=""):
    return words[words.index(name) + 1] if name in words else otherwise


def labels_of(words):
    return [LABEL, ADIPOSE] if option(words, "--model") == "tissues" else [LABEL]


def inspect(mode, words):
    if mode == "missing":
        print("python: No module named lightunet_monai", file=sys.stderr)
        return 1
    model = {**MODEL, "path": "", "modality": "CT", "intended_use": "Tests.", "labels": labels_of(words)}
    print(json.dumps({"schema": 1, "study": None, "model": model}, indent=2))
    return 0


def segment(mode, words):
    import numpy

    print("WARNING a line of another library")
    output = option(words, "-o")
    if mode == "crash":
        print("Traceback (most recent call last):\n  boom", file=sys.stderr)
        raise SystemExit(3)
    if mode == "oom" and option(words, "--device") != "cpu":
        tell("error", kind="DeviceMemoryError", reason="memory", message="Out of memory.", hint="Use the cpu.")
        return 1
    if mode == "error":
        tell("error", kind="GeometryError", reason="gap", message="A gap of 5 mm.", hint="Ask for all slices.")
        return 1
    if mode == "schema":
        tell("progress", schema=2, stage="read", fraction=0.0, seconds_left=None)
        return 0
    tell("progress", stage="read", fraction=0.0, seconds_left=None)
    if mode == "slow":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        with open(os.environ["FAKE_CHILD_FILE"], "w") as stream:
            stream.write(f"{os.getpid()} {child.pid}")
        for step in range(600):
            tell("progress", stage="infer", fraction=step / 600, seconds_left=60 - step / 10)
            time.sleep(0.1)
    values, header = read_nrrd(words[words.index("segment") + 1])
    probability = (1 / (1 + numpy.exp(-(values.astype(numpy.float32) - 20) / 20))).astype(numpy.float32)
    if "FAKE_PLATEAU" in os.environ:  # a doubtful piece, capped below the model's own threshold
        probability = probability.copy()
        probability[0:8, 20:26, 0:5] = float(os.environ["FAKE_PLATEAU"])
    threshold = float(option(words, "--threshold", os.environ.get("FAKE_THRESHOLD", "0.5")))
    for step in range(4):
        tell("progress", stage="infer", fraction=(step + 1) / 4, seconds_left=(3 - step) / 10)
    os.makedirs(output)
    mask = (probability >= threshold).astype(numpy.uint8)
    write_seg(os.path.join(output, "labelmap.seg.nrrd"), mask, header, labels_of(words))
    write_raw(os.path.join(output, "probability.nrrd"), probability, header, "float")
    report = {
        "schema": 1,
        "status": "done",
        "statement": "Research use only.",
        "created": "2026-01-01T00:00:00+00:00",
        "model": MODEL,
        "run": {"engine": "fake", "device": option(words, "--device", "cpu"), "settings": {"threshold": threshold}},
        "warnings": ["A warning."] if mode == "warn" else [],
        "findings": {
            "schema": 1,
            "lesions": lesions(mask, header),
            "breast_density": 0.23 if ADIPOSE in labels_of(words) else None,
        },
        "doubtful": json.loads(os.environ.get("FAKE_DOUBTFUL", "[]")),
        "files": [
            {"format": "segnrrd", "name": "labelmap.seg.nrrd"},
            {"format": "probability", "name": "probability.nrrd"},
        ],
    }
    with open(os.path.join(output, "report.json"), "w") as stream:
        json.dump(report, stream)
    tell("done", report=os.path.join(output, "report.json"))
    return 0


def export(mode, words):
    output = option(words, "-o")
    if mode == "error":
        tell("error", kind="GeometryError", reason="label-grid", message="0.5 voxels beside.", hint="Take the series.")
        return 1
    tell("progress", stage="write", fraction=0.0, seconds_left=None)
    os.makedirs(output)
    for name in option(words, "--formats").split(","):
        with open(os.path.join(output, {"seg": "segmentation.dcm", "sr": "findings_sr.dcm"}[name]), "wb") as stream:
            stream.write(b"DICM")
    tell("done", report=os.path.join(output, "report.json"))
    return 0


def train(mode, words):
    output = option(words, "-o")
    dice = [0.2, 0.4, 0.6] if mode != "uneven" else [0.4, None, 0.2]
    for epoch in range(1, 4):
        tell("progress", stage="train", fraction=(epoch - 0.5) / 3)
        values = {"epoch": epoch, "loss": 1 / epoch, "val_dice": dice[epoch - 1]}
        if mode != "old":  # a package from before there was `best_dice`
            values["best_dice"] = max(value for value in (0.5, *dice[:epoch]) if value is not None)
        tell("progress", stage="train", fraction=epoch / 3, **values)
        time.sleep(0.05)
    if mode == "crash":
        print("MemoryError", file=sys.stderr)
        return 1
    os.makedirs(os.path.join(output, "bundle"))
    tell("done", bundle=os.path.join(output, "bundle"))
    return 0


def read_nrrd(path):
    import numpy

    with open(path, "rb") as stream:
        head, data = stream.read().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line and line[0] != "#")
    kinds = {"short": "i2", "int16": "i2", "float": "f4", "double": "f8", "unsigned char": "u1", "int": "i4"}
    sizes = [int(size) for size in fields["sizes"].split()]
    assert fields["encoding"] == "raw", fields["encoding"]
    values = numpy.frombuffer(data, kinds[fields["type"]]).reshape(sizes, order="F")
    return values, {key: fields[key] for key in ("space", "space directions", "space origin")}


def affine(header):
    import numpy

    def vectors(text):
        return [[float(v) for v in one.split(",")] for one in re.findall(r"\(([^)]*)\)", text)]

    matrix = numpy.eye(4)
    matrix[:3, :3] = numpy.array(vectors(header["space directions"])).T
    matrix[:3, 3] = vectors(header["space origin"])[0]
    return numpy.diag([-1, -1, 1, 1]) @ matrix


def lesions(mask, header):
    import numpy

    if not mask.any():
        return []
    matrix, where = affine(header), numpy.argwhere(mask)
    centroid = matrix[:3, :3] @ where.mean(axis=0) + matrix[:3, 3]
    volume = len(where) * abs(numpy.linalg.det(matrix[:3, :3])) / 1000
    return [
        {
            "number": 1,
            "label": "tumor",
            "voxels": len(where),
            "volume_ml": volume,
            "feret_diameter_mm": 12.0,
            "axial_long_axis_mm": 11.0,
            "axial_short_axis_mm": 10.0,
            "mean_hu": 60.0,
            "centroid_ras_mm": list(centroid),
        }
    ]


def write_seg(path, mask, header, labels):
    tags = {
        "Segmentation.Status": "completed",
        "TerminologyEntry": TERMS,
        "DICOM.SegmentAlgorithmType": "AUTOMATIC",
        "DICOM.SegmentAlgorithmName": MODEL["name"],
        "LightUNet.ModelVersion": MODEL["version"],
        "LightUNet.WeightsSHA256": MODEL["weights_sha256"],
    }
    notes = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for index, label in enumerate(labels):
        own = tags if label is not LABEL or len(labels) == 1 else {**tags, "LightUNet.Lesions": "1"}
        segment = {
            "ID": label["name"],
            "Name": label["title"],
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{value / 255:.6f}" for value in label["color"]),
            "ColorAutoGenerated": "0",
            "LabelValue": str(label["value"]),
            "Layer": "0",
            "Extent": " ".join(f"0 {size - 1}" for size in mask.shape),
            "Tags": "".join(f"{key}:{value}|" for key, value in own.items()),
        }
        notes |= {f"Segment{index}_{key}": value for key, value in segment.items()}
    if ADIPOSE in labels:
        mask = mask + ADIPOSE["value"] * (mask == 0)
    write_raw(path, mask.astype("uint8"), header, "uint8", notes)


def write_raw(path, values, header, kind, notes=None):
    lines = ["NRRD0004", f"type: {kind}", "dimension: 3", f"sizes: {' '.join(map(str, values.shape))}"]
    lines += ["kinds: domain domain domain", "endian: little", "encoding: gzip"]
    lines += [f"{key}: {value}" for key, value in header.items()]
    lines += [f"{key}:={value}" for key, value in (notes or {}).items()]
    with open(path, "wb") as stream:
        stream.write(("\n".join(lines) + "\n\n").encode())
        stream.write(gzip.compress(values.tobytes(order="F"), 1))


if __name__ == "__main__":
    chosen, words = sys.argv[1], sys.argv[2:]
    assert words[:2] == ["-m", "lightunet_monai"], words
    commands = {"inspect": inspect, "segment": segment, "train": train, "export": export}
    sys.exit(commands[words[2]](chosen, words))
