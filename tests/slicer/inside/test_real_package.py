"""The package itself as the child: the same voxels, codes, measurements and DICOM files."""

import json
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from LightUNetSegmentationLib.dicom_export import startExport, takeExport
from LightUNetSegmentationLib.edits import lesionSegmentIds, ownSegmentIds
from LightUNetSegmentationLib.errors import ModuleError
from LightUNetSegmentationLib.fine_tuning import FineTuning, TrainingCurves, datalistPath
from LightUNetSegmentationLib.install import checkInstallation
from LightUNetSegmentationLib.measure import measureLesions
from LightUNetSegmentationLib.parameters import RunParameters, TrainParameters
from LightUNetSegmentationLib.results import recordedLesions
from LightUNetSegmentationLib.segment_run import SegmentRun
from LightUNetSegmentationLib.threshold import reapplyThreshold
from LightUNetSegmentationLib.training_cases import saveCase

from conftest import ORIENTATIONS

pytestmark = pytest.mark.real_child


@pytest.fixture
def ready(real_interpreter):
    installation = checkInstallation(real_interpreter)
    if not installation.isReady:
        pytest.skip(installation.summary)
    return SimpleNamespace(interpreter=real_interpreter, model=installation.model)


def segment(ready, volume, threshold=None, model="", **options):
    parameters = RunParameters(device="cpu", threads=1, threshold=threshold, model=model)
    return SegmentRun(volume, parameters, interpreter=ready.interpreter, **options).start().wait(300)


def some_threshold(segmentation):
    """A threshold that splits the probability map, whatever the weights are."""
    values = slicer.util.arrayFromVolume(segmentation.GetNodeReference("lightunet.probability"))
    return float(np.round(0.95 * np.quantile(values, 0.97), 4))  # below the plateau at which doubtful pieces end


def test_labels_threshold_and_measurements_are_those_of_the_package(ready, make_volume):
    made = make_volume(ORIENTATIONS["oblique"] @ np.diag([1, 1, -1]))  # oblique and left-handed
    segmentation = segment(ready, made.node)
    assert ownSegmentIds(segmentation) == [label["name"] for label in ready.model["labels"]]
    threshold = some_threshold(segmentation)
    mine = reapplyThreshold(segmentation, threshold, made.node)
    again = segment(ready, made.node, threshold)
    masks = [slicer.util.arrayFromSegmentBinaryLabelmap(one, "tumor", made.node) > 0 for one in (segmentation, again)]
    assert masks[1].any()
    assert not masks[1].all()
    # voxels whose probability is the threshold to the last digit may fall on either side
    assert (masks[0] != masks[1]).sum() <= 2 + masks[1].sum() // 200
    theirs = recordedLesions(again)
    measured = measureLesions(again, made.node)
    assert len(measured) == len(theirs)
    assert len(mine) > 0
    for one, other in zip(measured, theirs, strict=True):
        assert one["voxels"] == other["voxels"]
        assert one["volume_ml"] == pytest.approx(other["volume_ml"], abs=1e-4)
        assert one["mean_hu"] == pytest.approx(other["mean_hu"], abs=0.01)
        assert one["centroid_ras_mm"] == pytest.approx(other["centroid_ras_mm"], abs=0.01)
        assert one["feret_diameter_mm"] == pytest.approx(other["feret_diameter_mm"], abs=0.01)
        assert one["axial_long_axis_mm"] == pytest.approx(other["axial_long_axis_mm"], abs=0.01)
        assert one["axial_short_axis_mm"] == pytest.approx(other["axial_short_axis_mm"], rel=0.03, abs=0.05)


def test_a_sheared_volume_gets_advice_that_can_be_followed_here(ready, make_volume):
    sheared = make_volume(ORIENTATIONS["axial"] @ np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.25], [0.0, 0.0, 1.0]]))
    with pytest.raises(ModuleError, match="off a right angle") as caught:
        segment(ready, sheared.node)
    assert "--" not in caught.value.hint
    assert "Resample it onto a regular grid first, with the module" in caught.value.hint


def dicom_volume(variable="LIGHTUNET_DICOM_SERIES"):
    """A volume that was read from a DICOM series, and the files by their identifiers."""
    series = os.environ.get(variable, "")
    if not series:
        pytest.skip(f"{variable} names no folder of a CT series")
    files = {f"1.2.{number}": os.path.join(series, name) for number, name in enumerate(sorted(os.listdir(series)))}
    node = slicer.modules.volumes.logic().AddArchetypeVolume(files["1.2.0"], "CT", 0)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(files))
    return node, files


def test_dicom_seg_and_sr_are_written_from_the_series(ready, make_volume, tmp_path):
    node, files = dicom_volume()
    segmentation = segment(ready, node)
    reapplyThreshold(segmentation, some_threshold(segmentation), node)
    shown = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", node).sum()
    assert shown > 0
    report, seg = export(ready, segmentation, node, files, tmp_path / "as made")
    assert voxels_of(report) == shown
    assert report["run"]["algorithm_type"] == "AUTOMATIC"
    assert b"SEMIAUTOMATIC" not in seg

    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "tumor", node)
    array[np.argwhere(array)[0][0]] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, "tumor", node)
    assert array.sum() < shown
    report, seg = export(ready, segmentation, node, files, tmp_path / "edited")
    assert voxels_of(report) == array.sum()
    assert report["run"]["algorithm_type"] == "SEMIAUTOMATIC"
    assert report["model"]["name"] == ready.model["name"]
    assert b"SEMIAUTOMATIC" in seg
    measured = measureLesions(segmentation, node)
    assert [one["voxels"] for one in report["findings"]["lesions"]] == [one["voxels"] for one in measured]
    for one, other in zip(report["findings"]["lesions"], measured, strict=True):
        assert one["centroid_ras_mm"] == pytest.approx(other["centroid_ras_mm"], abs=0.01)


def test_tissues_are_drawn_and_exported_and_only_lesions_are_measured(ready, make_volume, tmp_path):
    tissues = checkInstallation(ready.interpreter, "tissues")
    assert tissues.isReady, tissues.summary
    node, files = dicom_volume("LIGHTUNET_LARGE_DICOM_SERIES")
    segmentation = segment(ready, node, model="tissues")
    assert ownSegmentIds(segmentation) == [label["name"] for label in tissues.model["labels"]]
    assert lesionSegmentIds(segmentation) == ["tumor"]
    assert {lesion["label"] for lesion in measureLesions(segmentation, node)} <= {"tumor"}
    shown = [
        name
        for name in ownSegmentIds(segmentation)
        if slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, node).any()
    ]
    assert {"fibroglandular", "adipose", "skin"} <= set(shown)
    report, _seg = export(ready, segmentation, node, files, tmp_path / "tissues", tissues.model, model="tissues")
    assert report["model"]["name"] == tissues.model["name"]
    assert report["model"]["weights_sha256"] == segmentation.GetAttribute("LightUNet.WeightsSHA256")
    with pytest.raises(ModuleError, match="no label for fibroglandular"):
        export(ready, segmentation, node, files, tmp_path / "other")


def voxels_of(report):
    return sum(lesion["voxels"] for lesion in report["findings"]["lesions"])


def export(ready, segmentation, node, files, destination, description=None, model=""):
    """Report and SEG file of an export."""
    job = startExport(
        segmentation,
        node,
        (description or ready.model)["labels"],
        interpreter=ready.interpreter,
        model=model,
        database=SimpleNamespace(fileForInstance=files.get),
    )
    assert job.wait(300) == "done", list(job.log)
    with open(os.path.join(job.folder, "result", "report.json")) as stream:
        report = json.load(stream)
    paths = takeExport(job, str(destination))
    assert [os.path.basename(path) for path in paths] == ["findings_sr.dcm", "segmentation.dcm"]
    assert job.folder is None
    with open(paths[1], "rb") as stream:
        return report, stream.read()


@pytest.mark.skipif("LIGHTUNET_TRAIN" not in os.environ, reason="LIGHTUNET_TRAIN=1 trains for minutes")
def test_saved_cases_train_a_model_that_segments(ready, make_volume, tmp_path):
    made = make_volume("oblique")
    segmentation = segment(ready, made.node)
    reapplyThreshold(segmentation, some_threshold(segmentation), made.node)
    for _ in range(2):
        saveCase(made.node, segmentation, str(tmp_path / "cases"), ready.model["labels"])
    parameters = TrainParameters(datalistPath(str(tmp_path / "cases")), str(tmp_path / "new"), epochs=1, device="cpu")
    training = FineTuning(parameters, interpreter=ready.interpreter, curves=TrainingCurves()).start()
    while training.isRunning:
        training.poll()
        time.sleep(0.1)
    assert training.error is None, training.error.text()
    assert len(training.curves.rows()) == 1
    assert training.modelFolder
    again = SegmentRun(
        made.node,
        RunParameters(device="cpu", threads=1, model=training.modelFolder),
        interpreter=ready.interpreter,
    )
    result = again.start().wait(300)
    assert result.GetAttribute("LightUNet.WeightsSHA256") != segmentation.GetAttribute("LightUNet.WeightsSHA256")


def test_parameter_choices_are_those_of_the_package(real_interpreter):
    """The window's list of engines is written there; the package has the say."""
    import subprocess

    from LightUNetSegmentationLib.parameter_node import LightUNetSegmentationParameterNode as Node

    done = subprocess.run(
        [
            real_interpreter,
            "-c",
            "import json; from lightunet_monai.options import ENGINES; print(json.dumps(ENGINES))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Node._parameters["engine"].validators[0].choices == json.loads(done.stdout)
