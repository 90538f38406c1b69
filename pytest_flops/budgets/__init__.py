"""What is allowed: budget files, units, patterns, verdicts, and updating in place."""
