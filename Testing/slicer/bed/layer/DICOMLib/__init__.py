"""Stand-in for Slicer's folder Modules/Scripted/DICOMLib: DICOMUtils alone."""
