"""The Slicer side of the extension, shared by its two modules. Nothing here imports torch."""
