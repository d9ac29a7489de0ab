"""A volume becomes a segmentation, through the bundle's own parts."""
