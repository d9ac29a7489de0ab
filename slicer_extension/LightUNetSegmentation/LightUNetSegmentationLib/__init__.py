"""The library of the module: Slicer and the standard library only, and no Qt outside of the ``*_panel`` files."""
