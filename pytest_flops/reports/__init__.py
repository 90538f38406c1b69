"""What one run found, as JSON, and everything that is rendered from it."""
