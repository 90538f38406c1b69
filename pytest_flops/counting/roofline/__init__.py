"""How fast a step could be on a named device at best; reported, and never limited."""
