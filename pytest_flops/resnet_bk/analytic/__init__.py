"""What ResNet-BK costs, from its configuration alone."""
