"""Predictions and references become voxel and lesion figures."""
