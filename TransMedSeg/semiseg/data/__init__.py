"""Volumes, their geometry, and the way from files to batches."""
