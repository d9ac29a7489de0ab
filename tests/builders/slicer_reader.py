"""Runs in the environment of slicer-core: reads files with 3D Slicer's own storage nodes and says what they hold.

python slicer_reader.py FILE...      segmentation (.seg.nrrd) or label map (.nrrd, .nii.gz); writes FILE.npz
"""

import json
import sys

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support


def affine_of(matrix):
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def array_of(image):
    """Values (x, y, z) of the extent of an image."""
    scalars = image.GetPointData().GetScalars()
    x, y, z = image.GetDimensions()
    if scalars is None or not min(x, y, z):
        return np.zeros((0, 0, 0), np.uint8)
    return numpy_support.vtk_to_numpy(scalars).reshape(z, y, x).transpose(2, 1, 0).astype(np.uint8)


def read_segmentation(scene, path):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(path)
    assert storage.ReadData(node), path
    segments, arrays = [], {}
    segmentation = node.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        image = segment.GetRepresentation("Binary labelmap")
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        # the extent need not start at 0, and the matrix belongs to index 0
        first = image.GetExtent()[::2]
        affine = affine_of(matrix)
        affine[:3, 3] += affine[:3, :3] @ np.array(first)
        terminology = vtk.reference("")
        segment.GetTag(segment.GetTerminologyEntryTagName(), terminology)
        algorithm = vtk.reference("")
        segment.GetTag("DICOM.SegmentAlgorithmType", algorithm)
        segments.append(
            {
                "id": segmentation.GetNthSegmentID(index),
                "name": segment.GetName(),
                "color": list(segment.GetColor()),
                "terminology": str(terminology),
                "algorithm": str(algorithm),
            }
        )
        arrays[f"mask{index}"] = array_of(image) == segment.GetLabelValue()
        arrays[f"affine{index}"] = affine
    return segments, arrays


def read_label_map(scene, path):
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    scene.AddNode(storage)
    storage.SetFileName(path)
    assert storage.ReadData(node), path
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return [{"name": path}], {"mask0": array_of(node.GetImageData()), "affine0": affine_of(matrix)}


def main(paths):
    for path in paths:
        scene = slicer.vtkMRMLScene()
        read = read_segmentation if path.endswith(".seg.nrrd") else read_label_map
        segments, arrays = read(scene, path)
        np.savez(f"{path}.npz", segments=json.dumps(segments), **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
