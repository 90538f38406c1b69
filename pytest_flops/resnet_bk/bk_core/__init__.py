"""BK-Core: one PyTorch operator, with its kernels and its cost."""
