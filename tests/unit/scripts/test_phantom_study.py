"""Independent phantoms: the same for a seed, labels inside the breast, right affines, tissue where its HU say it is."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import nibabel
import numpy as np
import pytest
from phantom_study import KINDS, Request, make_case, make_study
from phantoms.materials import BEAMS, Tissue, attenuation, effective, hounsfield, sample_tissues
from phantoms.scan import RtkMissingError, load_rtk
from scipy import ndimage

SMALL = 0.45
"""Of the breast's size: seconds instead of a minute."""

WITH_MASSES = Request(seed=1, number=1, projection=False, scale=SMALL)
CLUMPS_WITH_MASSES = Request(seed=1, number=2, projection=False, scale=SMALL, kind="clumps")
CELLS_WITH_MASSES = Request(seed=1, number=2, projection=False, scale=SMALL, kind="cells")


def rtk_or_skip():
    try:
        load_rtk()
    except RtkMissingError:
        pytest.skip("RTK (itk-rtk) is not installed")


@pytest.fixture(scope="module", params=[WITH_MASSES, CLUMPS_WITH_MASSES, CELLS_WITH_MASSES], ids=KINDS)
def request_and_case(request):
    return request.param, make_case(request.param)


@pytest.fixture(scope="module")
def case(request_and_case):
    return request_and_case[1]


def test_a_seed_gives_the_same_volume_and_another_number_another(request_and_case):
    asked, case = request_and_case
    again = make_case(asked)
    np.testing.assert_array_equal(case.hu, again.hu)
    np.testing.assert_array_equal(case.label, again.label)
    assert case.record == again.record
    other = make_case(replace(asked, number=asked.number + 1))
    assert other.record["phantom"] != case.record["phantom"]


def test_tissues_lie_where_their_hounsfield_units_are(case):
    adipose, gland, skin, mass = (case.hu[case.tissue == value] for value in (1, 2, 3, 9))
    assert np.median(adipose) == pytest.approx(case.record["measured"]["adipose_hu"], abs=15.0)
    assert np.median(gland) > np.median(adipose) + 60.0
    assert np.median(skin) > np.median(adipose) + 60.0
    assert mass.size == pytest.approx(np.count_nonzero(case.label), rel=0.2)
    outside = case.hu < -500.0
    assert np.isin(case.tissue[outside], (0, 3)).mean() > 0.99
    near = ndimage.binary_dilation(ndimage.binary_opening(outside), iterations=6)
    assert near[case.tissue == 3].mean() > 0.9  # skin is the outermost


def test_masses_lie_inside_the_breast_where_the_record_says(case):
    masses = case.record["phantom"]["masses"]
    assert masses
    assert case.hu[case.label > 0].min() > -150.0
    for mass in masses:
        index = np.rint(np.linalg.solve(case.affine, [*mass["centre_ras_mm"], 1.0])[:3]).astype(int)
        assert case.label[tuple(index)] == 1
    drawn = sum(np.pi / 6.0 * mass["diameter_mm"] ** 3 for mass in masses)
    labelled = case.label.sum() * abs(np.linalg.det(case.affine[:3, :3]))
    assert labelled == pytest.approx(drawn, rel=0.25)


def test_tissues_have_their_hounsfield_units(case):
    assert -135.0 < case.record["measured"]["adipose_hu"] < -85.0
    tissues = sample_tissues(np.random.default_rng(1))
    for beam in BEAMS:
        assert sum(beam.weights) == pytest.approx(1.0)
        assert hounsfield(attenuation("water"), beam) == pytest.approx(0.0)
        assert -135.0 < hounsfield(tissues[Tissue.ADIPOSE], beam) < -85.0
        assert 10.0 < hounsfield(tissues[Tissue.GLAND], beam) < 50.0
        assert 35.0 < hounsfield(tissues[Tissue.SKIN], beam) < 75.0
        assert 0.015 < effective(attenuation("water"), beam) < 0.03


def test_files_are_listed_turned_and_kept(tmp_path):
    lines = list(make_study([WITH_MASSES], tmp_path))
    assert len(lines) == 1
    assert not list(make_study([WITH_MASSES], tmp_path))
    entry = json.loads((tmp_path / "datalist.json").read_text())["testing"][0]
    image, label = (nibabel.load(tmp_path / entry[key]) for key in ("image", "label"))
    np.testing.assert_allclose(image.affine, label.affine)
    record = json.loads((tmp_path / "parameters" / "case_0001.json").read_text())
    assert "".join(nibabel.aff2axcodes(image.affine)) == record["orientation"]
    centre = record["phantom"]["masses"][0]["centre_ras_mm"]
    index = np.rint(np.linalg.solve(image.affine, [*centre, 1.0])[:3]).astype(int)
    assert np.asarray(label.dataobj)[tuple(index)] == 1


def test_a_case_that_was_not_written_whole_is_made_again(tmp_path):
    list(make_study([WITH_MASSES], tmp_path))
    (tmp_path / "images" / "case_0001.nii.gz").unlink()
    assert len(list(make_study([WITH_MASSES], tmp_path))) == 1
    (tmp_path / "parameters" / "case_0001.json").write_text('{"request": {"see')
    assert len(list(make_study([WITH_MASSES], tmp_path))) == 1
    assert not list(make_study([WITH_MASSES], tmp_path))


def test_a_case_whose_replacement_stopped_is_made_again(tmp_path, monkeypatch):
    list(make_study([WITH_MASSES], tmp_path))
    monkeypatch.setattr(nibabel, "save", lambda _, path: path.write_bytes(b"half"))
    monkeypatch.setattr(Path, "write_text", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        list(make_study([replace(WITH_MASSES, noise_hu=5.0)], tmp_path))
    monkeypatch.undo()
    assert len(list(make_study([WITH_MASSES], tmp_path))) == 1


def test_records_from_before_there_were_kinds_are_of_the_first(tmp_path):
    list(make_study([WITH_MASSES], tmp_path))
    path = tmp_path / "parameters" / "case_0001.json"
    record = json.loads(path.read_text())
    assert record["request"].pop("kind") == KINDS[0]
    path.write_text(json.dumps(record))
    assert not list(make_study([WITH_MASSES], tmp_path))
    assert len(list(make_study([CLUMPS_WITH_MASSES], tmp_path))) == 1


def test_kinds_have_masses_of_their_own():
    shapes = {kind: set() for kind in KINDS}
    for kind in KINDS:
        for number in range(1, 5):
            record = make_case(replace(WITH_MASSES, number=number, kind=kind)).record
            shapes[kind] |= {mass["kind"] for mass in record["phantom"]["masses"]}
    assert shapes["compartments"] <= {"lumpy", "spiculated", "oval"}
    assert shapes["clumps"] <= {"lobulated", "stellate"}
    assert shapes["cells"] <= {"wavy", "irregular"}
    assert all(shapes.values())


def test_without_rtk_projections_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "itk", None)
    with pytest.raises(RtkMissingError, match="pip install itk-rtk"):
        load_rtk()


def test_reconstruction_has_the_hounsfield_units_of_the_phantom():
    rtk_or_skip()
    scanned = make_case(Request(seed=1, number=1, scale=0.3))
    plain = make_case(Request(seed=1, number=1, projection=False, scale=0.3))
    assert scanned.hu.shape == plain.hu.shape
    fat = plain.hu < -80.0
    fat &= plain.hu > -140.0
    assert float(np.median(scanned.hu[fat])) == pytest.approx(float(np.median(plain.hu[fat])), abs=30.0)
    air = plain.hu < -990.0
    assert float(np.median(scanned.hu[air])) == pytest.approx(-1000.0, abs=40.0)
