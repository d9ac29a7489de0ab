"""Tumour label maps of breast CT volumes. Research use only, not for diagnosis."""

__version__ = "0.1.0"
