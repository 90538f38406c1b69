"""What can be wrong with a sweep, told to the people who asked for it."""

from __future__ import annotations


class ScalingError(ValueError):
    """A sweep that could not say how cost grows: bad sizes, a model that rejects one, no growth."""
