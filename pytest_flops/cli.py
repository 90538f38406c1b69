"""`pytest-flops`, also `python -m pytest_flops`: reports without pytest."""


def main() -> int:
    """Run the command line and return its exit code."""
    return 0
