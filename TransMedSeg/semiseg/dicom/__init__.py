"""DICOM in and out: series to volumes, label maps to Segmentation objects."""
