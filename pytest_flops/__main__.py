"""`python -m pytest_flops`."""

import sys

from pytest_flops.cli import main

if __name__ == "__main__":
    sys.exit(main())
