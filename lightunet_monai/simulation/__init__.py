"""A breast, its lesions and a scanner: labelled breast CT volumes from a seed."""
