"""Draws a result of the module in Slicer's own slice view, without a window, and checks that it lies on the tumour.

    .venv-trame/bin/python scripts/draw_slice_view.py VOLUME LABELMAP -o docs/images/slicer_slice_view.png

VOLUME is a CT volume and LABELMAP its ``labelmap.seg.nrrd``; both are loaded by the module's library. The views are
those of trame-slicer: the slice logic and displayable managers of Slicer do the drawing. The centre of the red overlay
on the picture is compared with where the geometry of the view says that the centre of the label has to be.
The exit code is 1 if they are more than a pixel apart.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import slicer
import slicer.util
import vtk
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition
from vtk.util.numpy_support import vtk_to_numpy

LIBRARY = Path(__file__).resolve().parents[1] / "slicer_extension" / "LightUNetSegmentation"
SIZE = (720, 560)
TOLERANCE_PX = 1.0
ORIENTATIONS = ("Axial", "Sagittal", "Coronal")


def main() -> int:
    """Draw and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path)
    parser.add_argument("labelmap", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    sys.path.insert(0, str(LIBRARY))

    app = SlicerApp()
    slicer.mrmlScene = app.scene
    volume = load_volume(app, arguments.volume)
    segmentation = load_result(arguments.labelmap, volume)
    centre = centroid(segmentation)
    pictures, errors = [], []
    for orientation in ORIENTATIONS:
        picture, error = draw(app, volume, segmentation, centre, orientation)
        pictures.append(picture)
        errors.append(error)
        print(f"{orientation}: overlay centre off by {error:.2f} px")
    write_png(np.concatenate([p[:, SIZE[0] // 6 : -SIZE[0] // 6] for p in pictures], axis=1), arguments.output)
    return 0 if max(errors) <= TOLERANCE_PX else 1


def load_volume(app: SlicerApp, path: Path):
    """Load the volume as Slicer does, shown with a soft-tissue window."""
    (volume,) = app.io_manager.load_volumes(str(path))
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(400, 0)
    return volume


def load_result(path: Path, volume):
    """Load the label map with the module's own library."""
    from LightUNetSegmentationLib.results import loadResult

    report = {"status": "done", "files": [{"format": "segnrrd", "name": path.name}]}
    return loadResult(json.loads(json.dumps(report)), str(path.parent), volume, "Result")


def centroid(segmentation) -> np.ndarray:
    """Centre of the largest lesion, RAS mm."""
    from LightUNetSegmentationLib.measure import measureLesions

    return np.array(measureLesions(segmentation)[0]["centroid_ras_mm"])


def draw(app: SlicerApp, volume, segmentation, centre: np.ndarray, orientation: str):
    """Draw one slice with and without the overlay; give the picture (row, column, RGB) and the error in pixels."""
    definition = ViewLayoutDefinition.slice_view(orientation)
    if not getattr(app, "_drawing", False):
        app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
        app._drawing = True
    view = app.view_manager.create_view(definition)
    window = view.render_window()
    window.SetSize(*SIZE)
    view.set_orientation(orientation)
    view.set_background_volume_id(volume.GetID())
    view.update_size(*SIZE)
    view.fit_view_to_content()
    node = view.get_view_node()
    node.JumpSliceByOffsetting(*centre)
    node.UpdateMatrices()
    display = segmentation.GetDisplayNode()
    display.SetVisibility2DFill(True)
    display.SetVisibility2DOutline(False)
    display.SetOpacity2DFill(1.0)
    display.SetVisibility(False)
    without = grab(view)
    display.SetVisibility(True)
    with_fill = grab(view)
    changed = np.argwhere(np.abs(with_fill.astype(int) - without.astype(int)).max(axis=2) > 40)
    found = changed.mean(axis=0)[::-1]  # x, y from the lower left
    expected = expected_centre(segmentation, node)
    # Off-screen the fill is not blended with the volume below it, so the picture shows the outline.
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetOpacity2DOutline(1.0)
    display.SetSliceIntersectionThickness(3)
    return grab(view)[::-1], float(np.linalg.norm(found - expected))


def expected_centre(segmentation, node) -> np.ndarray:
    """Pixel (x, y) of the centre of the label in the plane of a slice node, from the label's voxels alone."""
    from LightUNetSegmentationLib.edits import ownSegmentIds

    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(ownSegmentIds(segmentation)[0], image)
    matrix = vtk.vtkMatrix4x4()
    image.GetWorldToImageMatrix(matrix)
    world_to_voxel = slicer.util.arrayFromVTKMatrix(matrix)
    pixel_to_world = slicer.util.arrayFromVTKMatrix(node.GetXYToRAS())
    values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    pixels = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=-1).reshape(-1, 4)
    voxels = np.rint((pixels @ (world_to_voxel @ pixel_to_world).T)[:, :3]).astype(int)
    extent = image.GetExtent()
    voxels -= [extent[0], extent[2], extent[4]]
    inside = ((voxels >= 0) & (voxels < values.shape[::-1])).all(axis=1)
    i, j, k = voxels[inside].T
    hits = pixels[inside][values[k, j, i] > 0]
    return hits[:, :2].mean(axis=0)


def grab(view) -> np.ndarray:
    """Render and read the picture, rows from the bottom."""
    view.render()
    view.render_window().Render()
    reader = vtk.vtkWindowToImageFilter()
    reader.SetInput(view.render_window())
    reader.ReadFrontBufferOff()
    reader.Update()
    image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[..., :3].copy()


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write (row, column, RGB) with few colours: a small file."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.astype(np.uint8)).quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
