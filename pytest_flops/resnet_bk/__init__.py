"""ResNet-BK, the reference model, and what it costs from its configuration alone."""
