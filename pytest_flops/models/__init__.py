"""ResNet-BK, the reference model: configuration, BK-Core, mixture of experts, the model."""
