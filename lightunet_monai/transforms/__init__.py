"""The bundle's voxel work that MONAI does not have, and MONAI's way into the inputs."""
