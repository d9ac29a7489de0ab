"""A volume of the scene as a file for the child process, whole or cut to a region of interest."""

from __future__ import annotations

import os

import slicer
import vtk

from .errors import ModuleError

FILE_NAME = "volume.nrrd"
"""Never the name of the node, which may be the patient's."""
TYPES_WITHOUT_FILE = (vtk.VTK_SIGNED_CHAR, vtk.VTK_LONG_LONG, vtk.VTK_UNSIGNED_LONG_LONG)
"""Of voxels: Slicer holds them in memory, and writes no file of them. 64-bit files are read as such on Windows."""


def exportVolume(volume, folder, roi=None):
    """Write a volume as uncompressed NRRD.

    The file is in the volume's own frame: a transform above the volume is not applied, and the result is placed under
    the same transform.

    Parameters
    ----------
    volume : vtkMRMLScalarVolumeNode
        Hounsfield units; any orientation, spacing and handedness.
    folder : str
        Where the file goes.
    roi : vtkMRMLMarkupsROINode or None
        Keeps the smallest box of whole voxels that holds the region.

    Returns
    -------
    str
        Path of the file.

    Raises
    ------
    ModuleError
        If the volume is empty, the region lies outside of it, or writing fails.
    """
    checkVolume(volume)
    copy = slicer.vtkMRMLScalarVolumeNode()
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image = volume.GetImageData()
    if roi is not None:
        image, matrix = _cut(image, matrix, voxelBox(volume, roi))
    if image.GetScalarType() in TYPES_WITHOUT_FILE:
        cast = vtk.vtkImageCast()
        cast.SetInputData(image)
        cast.SetOutputScalarTypeToDouble()
        cast.Update()
        image = cast.GetOutput()
    copy.SetIJKToRASMatrix(matrix)
    copy.SetAndObserveImageData(image)
    path = os.path.join(folder, FILE_NAME)
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetUseCompression(False)
    storage.SetFileName(path)
    if not storage.WriteData(copy) or not os.path.exists(path):
        raise ModuleError(f"The volume could not be written to {folder}.", "Is there room on the disk?")
    return path


def checkVolume(volume):
    """Check that a volume can be segmented.

    Raises
    ------
    ModuleError
        If there is no volume, it is a label map, has no voxels, or is not scalar.
    """
    if volume is None:
        raise ModuleError("No volume is chosen.", "Choose a CT volume, or load a series from the DICOM browser.")
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise ModuleError(f"{volume.GetName()} is a label map, expected Hounsfield units.", "Choose a CT volume.")
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise ModuleError("The volume has no voxels.", "Load it again.")
    if image.GetNumberOfScalarComponents() != 1:
        raise ModuleError(
            f"The volume has {image.GetNumberOfScalarComponents()} values per voxel, expected 1.",
            "Choose a CT volume.",
        )
    transform = volume.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        raise ModuleError("The volume is under a warping transform.", "Harden the transform first.")


def isEligible(volume):
    """Tell whether a volume is worth trying in a batch: as `checkVolume` has it, and not made by this module."""
    if volume.GetAttribute("LightUNet.Kind"):
        return False
    try:
        checkVolume(volume)
    except ModuleError:
        return False
    return True


def gridOf(volume):
    """Give size and voxel to frame matrix of a volume, to be compared with what they are later."""
    matrix, image = vtk.vtkMatrix4x4(), volume.GetImageData()
    volume.GetIJKToRASMatrix(matrix)
    return image and image.GetDimensions(), slicer.util.arrayFromVTKMatrix(matrix).tolist()


def voxelBox(volume, roi):
    """Give the smallest box of whole voxels that holds a region: ``[iMin, iMax, jMin, jMax, kMin, kMax]``.

    Raises
    ------
    ModuleError
        If the region lies outside of the volume.
    """
    worldToVolume = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volume.GetParentTransformNode(), worldToVolume)
    rasToIjk = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(rasToIjk)
    dimensions = volume.GetImageData().GetDimensions()
    corners = []
    for corner in _roiCorners(roi):
        local = worldToVolume.TransformPoint(corner)
        corners.append(rasToIjk.MultiplyPoint((*local, 1.0))[:3])
    box = []
    for axis in range(3):
        low = max(0, round(min(corner[axis] for corner in corners)))
        high = min(dimensions[axis] - 1, round(max(corner[axis] for corner in corners)))
        if low > high:
            raise ModuleError("The region of interest lies outside of the volume.", "Move the region onto the volume.")
        box += [low, high]
    return box


def _roiCorners(roi):
    size = roi.GetSize()
    objectToWorld = roi.GetObjectToWorldMatrix()
    signs = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    return [
        objectToWorld.MultiplyPoint([sign * length / 2 for sign, length in zip(corner, size)] + [1.0])[:3]
        for corner in signs
    ]


def _cut(image, matrix, box):
    extract = vtk.vtkExtractVOI()
    extract.SetInputData(image)
    extract.SetVOI(box)
    extract.Update()
    cut = vtk.vtkImageData()
    cut.DeepCopy(extract.GetOutput())
    cut.SetExtent(0, box[1] - box[0], 0, box[3] - box[2], 0, box[5] - box[4])
    cut.SetOrigin(0, 0, 0)
    moved = vtk.vtkMatrix4x4()
    moved.DeepCopy(matrix)
    origin = matrix.MultiplyPoint((box[0], box[2], box[4], 1.0))
    for axis in range(3):
        moved.SetElement(axis, 3, origin[axis])
    return cut, moved
