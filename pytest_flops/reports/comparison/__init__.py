"""A report held against the report of its base."""
