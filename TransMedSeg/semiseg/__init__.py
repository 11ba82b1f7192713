"""semiseg: the semi-supervised segmentation engine of the TransMedSeg extension."""

__version__ = "0.1.0"
