"""Runs in the environment of slicer-core: saves a segmentation with 3D Slicer's own storage node.

python slicer_writer.py REQUEST.npz FILE.seg.nrrd

The request holds ``affine`` (voxel index to RAS+ mm), ``names`` and ``types`` (code values, may be empty), and a mask
(x, y, z) for each segment, ``mask0`` ...; ``crop`` cuts the file to its segments.
"""

import sys

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support


def oriented_image(mask, affine):
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(mask.shape)
    scalars = numpy_support.numpy_to_vtk(mask.astype(np.uint8).transpose(2, 1, 0).ravel(), deep=True)
    image.GetPointData().SetScalars(scalars)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(affine.ravel().tolist())
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def main(request, path):
    values = np.load(request)
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for index, (name, code) in enumerate(zip(values["names"].tolist(), values["types"].tolist(), strict=True)):
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", oriented_image(values[f"mask{index}"], values["affine"]))
        if code:
            entry = f"list~SCT^49755003^Morphologically Altered Structure~SCT^{code}^{name}~^^~Anatomic~^^~^^"
            segment.SetTag(segment.GetTerminologyEntryTagName(), entry)
        node.GetSegmentation().AddSegment(segment)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetCropToMinimumExtent(bool(values["crop"]))
    storage.SetFileName(path)
    assert storage.WriteData(node), path


if __name__ == "__main__":
    main(*sys.argv[1:])
