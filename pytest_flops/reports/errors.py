"""What can go wrong with a report, in one paragraph."""

from __future__ import annotations


class ReportError(ValueError):
    """A report that cannot be read, written, merged or compared."""
