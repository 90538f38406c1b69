"""The meter: every operator that PyTorch runs, by phase and module."""
