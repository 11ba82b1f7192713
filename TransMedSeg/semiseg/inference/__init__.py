"""From a model file and a volume to a label map on the volume's own grid. Knows nothing of methods and training."""
