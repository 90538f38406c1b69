"""What PyTorch, or a library, does otherwise than the meter needs it, one file for each.

Each begins with what it does, where that is reported, the versions it was seen in, and the
tests that pass without the file once it may go.
"""
