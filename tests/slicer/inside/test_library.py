"""Training cases, models, installation, diagnostics, DICOM export: the library without a window."""

import json
import math
import os
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from LightUNetSegmentationLib import diagnostics, dicom_export, install, training_cases
from LightUNetSegmentationLib.errors import ModuleError
from LightUNetSegmentationLib.fine_tuning import FineTuning, TrainingCurves
from LightUNetSegmentationLib.interpreter import childEnvironment, defaultInterpreter
from LightUNetSegmentationLib.models import ModelList, overlap
from LightUNetSegmentationLib.parameters import RunParameters, TrainParameters
from LightUNetSegmentationLib.report import doubtfulText, lesionCsv, lesionRows, lesionText, readReport
from LightUNetSegmentationLib.segment_run import SegmentRun
from LightUNetSegmentationLib.views import jumpTo

from conftest import MODULE, world_points

ROOT = Path(__file__).resolve().parents[3]
LABELS = [{"value": 1, "name": "tumor", "title": "Breast mass", "color": [230, 60, 60]}]
TISSUE_LABELS = [*LABELS, {"value": 2, "name": "adipose", "title": "Adipose tissue", "color": [230, 220, 70]}]
LESION = {"number": 1, "label": "tumor", "volume_ml": 1.25, "centroid_ras_mm": [1.0, -2.5, 3.0], "mean_hu": None}


def segment(volume, interpreter, **options):
    return SegmentRun(volume, interpreter=interpreter, **options).start().wait(60)


# Report


def test_a_value_that_was_not_measured_is_a_dash():
    assert lesionRows([LESION]) == [("1", "tumor", "1.25", "-", "-", "-", "-", "1.0, -2.5, 3.0")]


def test_no_lesion_is_no_clean_bill():
    assert "does not mean that there is none" in lesionText([])


def test_the_density_is_in_the_text_where_it_was_measured():
    assert lesionText([], "Research.", 0.234).splitlines()[1:] == [
        "Fibroglandular tissue: 23% of the breast's volume",
        "Research.",
    ]


def test_places_of_which_the_model_was_not_sure_are_counted():
    assert doubtfulText([]) == ""
    assert doubtfulText([{"probability": 0.306}]) == "Doubtful, not drawn: 1 place, probability 0.31 at most"
    assert "2 places, probability 0.40" in doubtfulText([{"probability": 0.4}, {"probability": 0.2}])


def test_csv_has_one_number_a_cell():
    header, row = lesionCsv([LESION]).splitlines()
    assert header.split(",")[-3:] == ["right_mm", "anterior_mm", "superior_mm"]
    assert row.split(",")[-3:] == ["1.0", "-2.5", "3.0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"schema": 7}', "schema 7"),
        ('{"schema": 1, "status": "failed", "error": {"message": "A gap.", "hint": "h"}}', "A gap"),
    ],
)
def test_a_report_that_is_none_is_refused(tmp_path, content, message):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ModuleError, match=message):
        readReport(tmp_path / "report.json")


# Training cases and models


def test_a_case_is_on_the_grid_of_its_volume_and_listed(make_volume, make_interpreter, tmp_path):
    made = make_volume("oblique", name="DOE^JANE")
    segmentation = segment(made.node, make_interpreter())
    case = training_cases.saveCase(made.node, segmentation, str(tmp_path), LABELS)
    for name, expected in (("image.nrrd", made.array), ("label.nrrd", made.ball)):
        node = slicer.vtkMRMLScalarVolumeNode()
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(os.path.join(case, name))
        assert storage.ReadData(node)
        assert np.array_equal(slicer.util.arrayFromVolume(node).transpose(2, 1, 0), expected)
    datalist = json.loads((tmp_path / "datalist.json").read_text())
    assert datalist["training"] == [{"image": "case-0001/image.nrrd", "label": "case-0001/label.nrrd"}]
    assert datalist["labels"] == {"0": "background", "1": "tumor"}
    assert b"DOE" not in b"".join(path.read_bytes()[:3000] for path in tmp_path.rglob("*") if path.is_file())


def test_a_fifth_of_the_cases_is_for_validation(make_volume, make_interpreter, tmp_path):
    made = make_volume()
    segmentation = segment(made.node, make_interpreter())
    for _ in range(6):
        training_cases.saveCase(made.node, segmentation, str(tmp_path), LABELS)
    assert training_cases.countCases(str(tmp_path)) == (4, 2)
    assert training_cases.canTrain(str(tmp_path))


def test_a_segmentation_without_a_structure_of_the_model_is_no_case(make_volume, scene, tmp_path):
    foreign = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    with pytest.raises(ModuleError, match="No segment belongs"):
        training_cases.saveCase(make_volume().node, foreign, str(tmp_path), LABELS)


def test_cases_with_other_labels_are_not_mixed(make_volume, make_interpreter, tmp_path):
    made = make_volume()
    training_cases.saveCase(made.node, segment(made.node, make_interpreter()), str(tmp_path), LABELS)
    tissues = segment(made.node, make_interpreter(), parameters=RunParameters(model="tissues"))
    with pytest.raises(ModuleError, match="no label for adipose"):
        training_cases.saveCase(made.node, tissues, str(tmp_path), LABELS)
    with pytest.raises(ModuleError, match="other labels: background, tumor"):
        training_cases.saveCase(made.node, tissues, str(tmp_path), TISSUE_LABELS)
    assert sorted(os.listdir(tmp_path / "case-0001")) == ["image.nrrd", "label.nrrd"]
    assert not (tmp_path / "case-0002").exists()
    training_cases.saveCase(made.node, tissues, str(tmp_path / "tissues"), TISSUE_LABELS)
    assert json.loads((tmp_path / "tissues" / "datalist.json").read_text())["labels"]["2"] == "adipose"


def test_training_needs_two_cases_and_draws_its_curves(make_interpreter, tmp_path, scene):
    parameters = TrainParameters(str(tmp_path / "datalist.json"), str(tmp_path / "new"), epochs=3)
    with pytest.raises(ModuleError, match="two training cases"):
        FineTuning(parameters, interpreter=make_interpreter()).start()
    (tmp_path / "datalist.json").write_text('{"training": [{}], "validation": [{}]}')
    curves = TrainingCurves()
    training = FineTuning(parameters, interpreter=make_interpreter(), curves=curves).start()
    training.job.wait(30)
    training.poll()
    while training.isRunning:
        training.poll()
    assert training.modelFolder == str(tmp_path / "new" / "bundle")
    assert curves.chart.GetNumberOfPlotSeriesNodes() == 2


@pytest.mark.parametrize(
    ("mode", "best", "drawn"), [("uneven", 0.5, [0.4, math.nan, 0.2]), ("old", 0.6, [0.2, 0.4, 0.6])]
)
def test_a_model_has_its_best_dice_and_the_curve_what_each_epoch_had(
    make_interpreter, tmp_path, scene, mode, best, drawn
):
    (tmp_path / "datalist.json").write_text('{"training": [{}], "validation": [{}]}')
    parameters = TrainParameters(str(tmp_path / "datalist.json"), str(tmp_path / "new"), epochs=3)
    training = FineTuning(parameters, interpreter=make_interpreter(mode), curves=TrainingCurves()).start()
    while training.isRunning:
        training.poll()
        time.sleep(0.02)
    assert training.bestDice == pytest.approx(best)
    assert [dice for _epoch, _loss, dice in training.curves.rows()] == pytest.approx(drawn, nan_ok=True)


def test_curves_of_a_training_that_outlives_the_scene_are_drawn_again(scene):
    curves = TrainingCurves()
    curves.add(1, 0.5, None)
    curves.add(2, 0.25, 0.75)
    assert curves.isInScene
    scene.Clear(0)
    curves.add(3, 0.125, 0.5)
    assert not curves.isInScene
    again = curves.drawnAgain()
    assert again.isInScene
    assert scene.GetNodeByID(again.chart.GetID()) is again.chart
    assert [row[0] for row in again.rows()] == [1, 2, 3]
    assert [row[2] for row in again.rows()] == pytest.approx([math.nan, 0.75, 0.5], nan_ok=True)


def test_models_are_chosen_and_taken_back_also_after_a_restart(tmp_path):
    models = ModelList(str(tmp_path))
    (tmp_path / "one").mkdir()
    models.add(str(tmp_path / "one"), "one", 0.8)
    assert [model for model, _ in models.choices()] == ["", "tissues", str(tmp_path / "one")]
    assert models.choices()[2][1] == "one, Dice 0.800"
    models.choose(str(tmp_path / "one"))
    again = ModelList(str(tmp_path))
    assert again.current == str(tmp_path / "one")
    again.choose("tissues")
    again = ModelList(str(tmp_path))
    assert again.current == "tissues"
    assert again.rollBack() == str(tmp_path / "one")
    assert again.rollBack() == ""
    assert not again.canRollBack
    with pytest.raises(ModuleError):
        again.choose("/nowhere")


def test_a_list_of_models_that_cannot_be_written_is_told_and_stays_as_it_was(tmp_path):
    (tmp_path / "file").write_text("")  # in the place of a folder
    (tmp_path / "one").mkdir()
    models = ModelList(str(tmp_path / "file"))
    for change in (
        lambda: models.add(str(tmp_path / "one"), "one"),
        lambda: models.choose("tissues"),
    ):
        with pytest.raises(ModuleError, match=r"models\.json cannot be written"):
            change()
    assert models.current == ""
    assert models.models == []
    models.used = ["", "tissues"]
    with pytest.raises(ModuleError, match=r"models\.json cannot be written"):
        models.rollBack()
    assert models.current == "tissues"


def test_a_model_that_was_deleted_is_not_used(tmp_path):
    models = ModelList(str(tmp_path))
    (tmp_path / "one").mkdir()
    models.add(str(tmp_path / "one"), "one")
    models.choose(str(tmp_path / "one"))
    (tmp_path / "one").rmdir()
    assert ModelList(str(tmp_path)).current == ""


def test_overlap_is_the_dice_coefficient(make_volume, make_interpreter):
    made = make_volume()
    first, second = (segment(made.node, make_interpreter()) for _ in range(2))
    assert overlap(first, second, made.node) == 1.0
    tissues = segment(made.node, make_interpreter(), parameters=RunParameters(model="tissues"))
    assert overlap(first, tissues, made.node) == 1.0  # lesions alone count
    array = slicer.util.arrayFromSegmentBinaryLabelmap(second, "tumor", made.node)
    array[: made.ball.shape[2] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, second, "tumor", made.node)
    expected = 2 * array.sum() / (array.sum() + made.ball.sum())
    assert overlap(first, second, made.node) == pytest.approx(expected)


# Installation


def test_the_states_of_an_installation(make_interpreter):
    assert install.checkInstallation(make_interpreter("ok")).isReady
    assert install.checkInstallation(make_interpreter("missing")).state == "missing"
    assert install.checkInstallation("/nowhere/python").state == "broken"
    broken = install.describeInstallation(1, "", ["ImportError: libtorch"])
    assert (broken.state, "libtorch" in broken.summary) == ("broken", True)
    without = install.describeInstallation(0, '{"model": {"error": {"message": "No bundle.", "hint": "h"}}}', [])
    assert without.summary == "No bundle."


def test_another_python_without_the_package_is_told_what_to_do_there(make_interpreter):
    assert "python -m pip install" in install.checkInstallation(make_interpreter("missing")).hint
    assert "python -m pip install" in install.describeInstallation(1, "", ["ImportError: x"], "/other/python").hint
    missing = ["python: No module named lightunet_monai"]
    assert install.describeInstallation(1, "", missing).hint == "Press Install or repair."


@pytest.mark.parametrize("noise", ["{", "cache {'hits': 3}\n", '{"hits": 3}\n'])
def test_what_other_programs_print_does_not_hide_the_model(noise):
    answer = '{"schema": 1, "model": {"name": "LightUNet", "version": "1.0"}}'
    assert install.describeInstallation(0, noise + answer, []).summary == "Model LightUNet 1.0"


def test_pip_ensure_is_used_where_slicer_has_it_and_leaves_torch_alone():
    calls = []
    packaging = SimpleNamespace(pip_ensure=lambda *words, **options: calls.append((words, options)))
    assert install.ensureInstalled(packaging)
    (words, options) = calls[0]
    assert words == (["lightunet_monai>=0.1.0"],)
    assert {"torch", "SimpleITK", "numpy"} <= set(options["skip_packages"])
    assert install.ensureInstalled() is False  # slicer-core has no slicer.packaging


def test_pip_offline_and_behind_a_proxy():
    words = install.pipArguments(wheelFolder="/wheels", proxy="http://p:1", constraints="/c.txt", upgrade=True)
    assert words[words.index("--find-links") + 1] == "/wheels"
    assert "--no-index" in words
    assert words[words.index("--proxy") + 1] == "http://p:1"
    assert words[words.index("--constraint") + 1] == "/c.txt"
    assert "--no-index" not in install.pipArguments()


def test_pip_really_installs_from_a_folder_of_wheels_without_a_network(tmp_path, monkeypatch):
    import sys
    import zipfile

    name = "lightunet_monai-0.1.0"
    info = f"{name}.dist-info"
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lightunet_monai/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: lightunet_monai\nVersion: 0.1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
    monkeypatch.setattr(install, "isOwnInterpreter", lambda _: True)
    job = install.startInstall(sys.executable, wheelFolder=str(tmp_path), versions={"numpy": np.__version__})
    folder = job.folder
    with open(os.path.join(folder, "constraints.txt")) as stream:
        assert stream.read() == f"numpy=={np.__version__}\n"
    assert job.wait(120) == "done", list(job.log)
    job.close()
    assert (tmp_path / "site" / "lightunet_monai").is_dir()
    assert not os.path.exists(folder)


def test_another_python_is_not_changed():
    with pytest.raises(ModuleError, match="another Python"):
        install.startInstall("/usr/bin/elsewhere")


def test_torch_comes_from_the_extension_only():
    calls = []
    logic = SimpleNamespace(
        torchInstalled=lambda: False, installTorch=lambda **options: calls.append(options) or object()
    )
    install.installTorch(logic)
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": install.TORCH_REQUIREMENT}]
    with pytest.raises(ModuleError, match="not installed"):
        install.installTorch(SimpleNamespace(torchInstalled=lambda: False, installTorch=lambda **_: None))
    with pytest.raises(ModuleError, match="PyTorch extension"):
        install.installTorch()


def test_torch_is_required_as_the_package_does():
    import tomllib

    with open(ROOT / "pyproject.toml", "rb") as stream:
        dependencies = tomllib.load(stream)["project"]["dependencies"]
    assert [one for one in dependencies if one.startswith("torch")] == ["torch" + install.TORCH_REQUIREMENT]


@pytest.mark.parametrize(
    "version", ["1.13.1", "2", "2.7.1+cu118", "2.8", "2.8.0+cu128", "2.9.0", "2.9.1+cpu", "2.10.0", "2.90.0", "3.0"]
)
def test_the_version_of_torch_is_judged_as_pip_does(version):
    from packaging.specifiers import SpecifierSet

    isRight = version in SpecifierSet(install.TORCH_REQUIREMENT)
    assert install.meetsRequirement(version) == isRight
    logic = SimpleNamespace(torchInstalled=lambda: True)
    if isRight:
        install.installTorch(logic, version)
    else:
        with pytest.raises(ModuleError, match=r"is installed, the package needs >=2\.8") as caught:
            install.installTorch(logic, version)
        assert version in caught.value.message
        assert "PyTorch Utils" in caught.value.hint


INSTALLER_ERRORS = [
    subprocess.CalledProcessError(1, ["light-the-torch"]),
    RuntimeError("no network"),
    OSError(28, "No space left on device"),
    ValueError("no build for this card"),
    ImportError("DLL load failed"),
]


@pytest.mark.parametrize("error", INSTALLER_ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_stops_an_installer_of_slicer_is_told(error):
    def stop(*_words, **_options):
        raise error

    for logic in (
        SimpleNamespace(torchInstalled=lambda: False, installTorch=stop),
        SimpleNamespace(torchInstalled=stop),  # what is there cannot be imported
    ):
        with pytest.raises(ModuleError, match="PyTorch was not installed") as caught:
            install.installTorch(logic)
        assert str(error).rstrip(".") in caught.value.message
        assert "PyTorch Utils" in caught.value.hint
    with pytest.raises(ModuleError, match="The package was not installed"):
        install.ensureInstalled(SimpleNamespace(pip_ensure=stop))


@pytest.mark.parametrize("what", ["folder", "file"])
def test_an_installation_without_room_for_temporary_files_is_told(monkeypatch, temporary, what):
    def full(*_words, **_options):
        raise OSError(28, "No space left on device")

    if what == "folder":
        monkeypatch.setattr(tempfile, "mkdtemp", full)
    else:
        monkeypatch.setattr(install, "open", full, raising=False)
    with pytest.raises(ModuleError, match="cannot be written: No space left on device"):
        install.startInstall()
    assert temporary() == []


def test_another_python_does_not_get_the_libraries_of_slicer(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/slicer")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/slicer/lib")
    assert "PYTHONHOME" in childEnvironment("")
    assert childEnvironment("")["PYTHONSAFEPATH"] == "1"
    other = childEnvironment("/usr/bin/elsewhere")
    assert "PYTHONHOME" not in other
    assert "LD_LIBRARY_PATH" not in other
    assert os.path.exists(defaultInterpreter())


# Diagnostics


@pytest.mark.parametrize(
    "text",
    [
        "/home/anna/DOE_JANE/series 1/im.dcm",
        "C:\\Users\\anna\\DOE.dcm",
        "DOE^JANE^^Dr",
        "1.2.840.113619.2.55.3.604688.119",
        "born 1961-04-12",
        "19610412",
        "Mrs Example",
    ],
)
def test_nothing_of_the_patient_is_in_the_diagnostics(text):
    redacted = diagnostics.redact(f"could not read {text}, stop", names=["Mrs Example"])
    for part in ("anna", "DOE", "JANE", "1961", "Example", "113619"):
        assert part not in redacted
    assert redacted.startswith("could not read ")
    assert "<" in redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (r"cannot read D:\Patients\Doe Jane\CT1", "cannot read <path>"),
        ("open /data/Doe Jane/CT1 failed", "open <path> failed"),
        ("/mnt/pacs/Mueller, Eva/1.nrrd", "<path>"),
        (r"\\server\Patients\Doe Jane\CT1: denied", "<path>: denied"),
        ("/data/O'Neil/CT1 is missing", "<path> is missing"),
        ("/data/CT1/Doe Jane Eva.nrrd, stop", "<path>, stop"),
        (r"D:\Patients\Doe Jane cannot be written: full.", "<path> cannot be written: full."),
        ("No such file: '/data/Doe Jane'", "No such file: '<path>'"),
        ('File "/x/lightunet_monai/inputs/volume.py", line 3, in f', 'File "<path>/volume.py", line 3, in f'),
        ("/x/volume.py:33: UserWarning: 3 mm/s", "<path>/volume.py:33: UserWarning: 3 mm/s"),
        ("Device cpu and/or a region, 2 of 3 mm/s", "Device cpu and/or a region, 2 of 3 mm/s"),
    ],
)
def test_a_path_is_taken_out_with_its_blanks_and_commas_and_the_rest_stays(text, redacted):
    assert diagnostics.redact(text) == redacted


def test_parts_of_the_folders_and_programs_that_are_set_are_taken_out():
    names = diagnostics.pathTexts(
        ["/home/anna/Doe Jane/cases", r"C:\Program Files\Python 3\python.exe", "http://me:secret@proxy:1", ""]
    )
    text = "python of anna: the cases of DOE JANE, asked of http://me:secret@proxy:1 as me:secret@proxy:1"
    assert diagnostics.redact(text, names) == "python of <name>: the cases of <name>, asked of <name> as <name>"


def test_names_of_nodes_and_patients_are_taken_out(make_volume, scene):
    make_volume(name="Jane Doe CT")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Doe, Jane (4711)")
    error = ModuleError("Jane Doe CT cannot be read.", log=['File "/x/lightunet_monai/inputs/volume.py", line 3'])
    text = diagnostics.diagnosticsText(error=error, names=diagnostics.patientTexts())
    assert "Jane" not in text
    assert "volume.py" in text


# Views


def test_views_jump_to_a_point_under_a_transform(make_volume, scene):
    import vtk

    made = make_volume()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(2, 3, 100.0)
    transform.SetMatrixTransformToParent(matrix)
    made.node.SetAndObserveTransformNodeID(transform.GetID())
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode") or scene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    camera = scene.AddNewNodeByClass("vtkMRMLCameraNode")
    assert jumpTo((1, 2, 3), made.node) == (1.0, 2.0, 103.0)
    assert tuple(crosshair.GetCrosshairRAS()) == (1.0, 2.0, 103.0)
    assert tuple(camera.GetFocalPoint()) == (1.0, 2.0, 103.0)


# DICOM


@pytest.fixture
def dicom_result(make_volume, make_interpreter, tmp_path):
    """A result on a volume whose DICOM files a database knows."""
    made = make_volume("oblique")
    files = {}
    for number in range(3):
        path = tmp_path / f"DOE_{number}.dcm"
        path.write_bytes(b"x")
        files[f"1.2.{number}"] = str(path)
    made.node.SetAttribute("DICOM.instanceUIDs", " ".join(files))
    database = SimpleNamespace(fileForInstance=lambda name: files.get(name, ""))
    return SimpleNamespace(
        segmentation=segment(made.node, make_interpreter()), volume=made.node, files=files, database=database
    )


def start_export(made, labels=LABELS, interpreter=""):
    return dicom_export.startExport(
        made.segmentation, made.volume, labels, interpreter=interpreter, model="/m", database=made.database
    )


def cut(made):
    """Edit the result as a brush would."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(made.segmentation, "tumor", made.volume)
    array[:7] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, made.segmentation, "tumor", made.volume)
    return array


def exported_label_map(job):
    node = slicer.vtkMRMLLabelMapVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(os.path.join(job.folder, "labelmap.nrrd"))
    assert storage.ReadData(node)
    return node


def test_an_export_needs_the_files_of_the_series_and_a_structure_of_the_model(dicom_result, temporary):
    with pytest.raises(ModuleError, match="no label for tumor"):
        start_export(dicom_result, labels=[{"value": 1, "name": "skin"}])
    dicom_result.volume.SetAttribute("DICOM.instanceUIDs", " ".join([*dicom_result.files, "1.2.99"]))
    with pytest.raises(ModuleError, match="1 of 4"):
        start_export(dicom_result)
    assert temporary() == []


@pytest.mark.parametrize("where", ["tempfile.mkdtemp", "shutil.copyfile"])
def test_an_export_without_room_for_temporary_files_is_told(dicom_result, temporary, monkeypatch, where):
    def full(*_words, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)  # another disk
    monkeypatch.setattr(where, full)
    with pytest.raises(ModuleError, match="cannot be written: No space left on device"):
        start_export(dicom_result)
    assert temporary() == []


@pytest.mark.parametrize("isEdited", [False, True])
def test_an_export_hands_over_what_is_shown_and_who_drew_it(
    dicom_result, make_interpreter, temporary, tmp_path, isEdited
):
    from LightUNetSegmentationLib.edits import segmentTag

    if isEdited:
        cut(dicom_result)
    shown = slicer.util.arrayFromSegmentBinaryLabelmap(dicom_result.segmentation, "tumor", dicom_result.volume)
    job = start_export(dicom_result, interpreter=make_interpreter())
    assert job.wait(30) == "done", list(job.log)
    words = job.command
    assert words[words.index("-m") + 2 : words.index("-m") + 4] == ["export", os.path.join(job.folder, "labelmap.nrrd")]
    assert ("--edited" in words, "--unedited" in words) == (isEdited, not isEdited)
    assert words[words.index("--bundle") + 1] == "/m"
    series = words[words.index("--source") + 1]
    assert len(os.listdir(series)) == 3
    assert not any("DOE" in name for name in os.listdir(series))
    written = exported_label_map(job)
    values = slicer.util.arrayFromVolume(written)
    assert shown.any()
    assert np.array_equal(world_points(values == 1, written), world_points(shown > 0, dicom_result.volume))
    with open(words[words.index("--report") + 1]) as stream:
        run = json.load(stream)
    assert run["model"] == {"name": "fake model", "version": "9.9", "weights_sha256": "ab" * 32}
    assert run["run"]["settings"]["threshold"] == 0.5
    kind = segmentTag(dicom_result.segmentation.GetSegmentation().GetSegment("tumor"), "DICOM.SegmentAlgorithmType")
    assert kind == ("SEMIAUTOMATIC" if isEdited else "AUTOMATIC")
    paths = dicom_export.takeExport(job, str(tmp_path / "out"))
    assert [os.path.basename(path) for path in paths] == ["findings_sr.dcm", "segmentation.dcm"]
    assert temporary() == []


def test_a_refused_export_is_told_with_its_hint(dicom_result, make_interpreter, temporary, tmp_path):
    job = start_export(dicom_result, interpreter=make_interpreter("error"))
    job.wait(30)
    with pytest.raises(ModuleError, match="voxels beside"):
        dicom_export.takeExport(job, str(tmp_path / "out"))
    assert temporary() == []


def test_exported_files_never_replace_others(tmp_path):
    folder = tmp_path / "temporary"
    (folder / "result").mkdir(parents=True)
    (folder / "result" / "segmentation.dcm").write_bytes(b"new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "segmentation.dcm").write_bytes(b"old")
    job = SimpleNamespace(folder=str(folder), error=None, close=lambda: None)
    (path,) = dicom_export.takeExport(job, str(tmp_path / "out"))
    assert os.path.basename(path) == "segmentation-2.dcm"
    assert (tmp_path / "out" / "segmentation.dcm").read_bytes() == b"old"


def test_an_export_that_cannot_be_copied_as_a_whole_leaves_no_part_of_it(tmp_path):
    folder = tmp_path / "temporary"
    (folder / "result" / "segmentation.dcm").mkdir(parents=True)  # cannot be read as a file
    (folder / "result" / "findings_sr.dcm").write_bytes(b"new")
    job = SimpleNamespace(folder=str(folder), error=None, close=lambda: None)
    with pytest.raises(ModuleError, match="cannot be written"):
        dicom_export.takeExport(job, str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


# Layers


def test_files_import_slicer_and_the_standard_library_only_and_no_qt_in_the_library():
    import ast
    import sys

    allowed = {"slicer", "vtk", "qt", "ctk", "LightUNetSegmentationLib", *sys.stdlib_module_names}
    windows = {"widget.py", "findings_panel.py", "learning_panel.py", "setup_panel.py", "settings.py"}
    for path in MODULE.rglob("*.py"):
        if "Testing" in path.parts:
            continue
        names = set()
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.Import):
                names |= {one.name.split(".")[0] for one in statement.names}
            elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
                names.add(statement.module.split(".")[0])
        assert names <= allowed, (path.name, names - allowed)
        if path.name not in windows:
            assert not names & {"qt", "ctk"}, path.name
        assert "import lightunet_monai" not in path.read_text()
