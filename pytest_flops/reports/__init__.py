"""What is told: one run as JSON, and everything rendered from it."""
