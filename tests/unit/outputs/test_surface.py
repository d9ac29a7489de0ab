from pathlib import Path

import numpy as np
import pytest

from lightunet_monai.errors import UsageError
from lightunet_monai.outputs import measure_lesions, write_surface
from tests.builders.segmentation import make_case

RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def _triangles(path: Path) -> np.ndarray:
    data = path.read_bytes()
    count = int.from_bytes(data[80:84], "little")
    records = np.frombuffer(data, RECORD, offset=84)
    assert len(records) == count
    return records


@pytest.mark.parametrize("source", ["axial", "left-handed", "oblique", "tilted"])
def test_stl_triangles_are_closed_face_outwards_and_enclose_the_lesions(tmp_path: Path, source: str) -> None:
    case = make_case(tmp_path, source)
    records = _triangles(write_surface(case.segmentation, tmp_path / "surface.stl"))
    corners = records["corners"].astype(np.float64)
    centre = corners.reshape(-1, 3).mean(axis=0)
    a, b, c = (corners[:, index] - centre for index in range(3))
    volume_ml = float((a * np.cross(b, c)).sum()) / 6000

    expected = sum(lesion.volume_ml for lesion in measure_lesions(case.segmentation))
    assert volume_ml == pytest.approx(expected, rel=0.06)
    directions: dict[tuple[bytes, bytes], int] = {}
    for triangle in records["corners"]:
        for first, second in ((0, 1), (1, 2), (2, 0)):
            edge = (triangle[first].tobytes(), triangle[second].tobytes())
            directions[edge] = directions.get(edge, 0) + 1
    assert all(directions.get((second, first)) == count for (first, second), count in directions.items())


def test_obj_has_one_object_for_each_lesion(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    lines = write_surface(case.segmentation, tmp_path / "surface.obj").read_text().splitlines()
    vertices = sum(line.startswith("v ") for line in lines)
    faces = [[int(part) for part in line.split()[1:]] for line in lines if line.startswith("f ")]

    assert [line for line in lines if line.startswith("o ")] == ["o Breast_mass_1", "o Breast_mass_2"]
    assert min(min(face) for face in faces) == 1
    assert max(max(face) for face in faces) == vertices


def test_a_case_without_lesions_gives_a_file_without_triangles(tmp_path: Path) -> None:
    case = make_case(tmp_path, empty=True)
    assert len(_triangles(write_surface(case.segmentation, tmp_path / "surface.stl"))) == 0


def test_another_extension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"found \.ply, expected one of \.stl, \.obj"):
        write_surface(make_case(tmp_path).segmentation, tmp_path / "surface.ply")
