"""A segmentation becomes files, all of them or none."""
