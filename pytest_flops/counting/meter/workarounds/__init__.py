"""What PyTorch does otherwise than it should, one file for each."""
