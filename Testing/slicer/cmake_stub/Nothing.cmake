# What Slicer does here (configuration for other extensions, packaging) leaves no files in the installed tree.
