"""A budget held against what was counted: verdicts and their words."""
