"""One run of pytest: what it asks for, what its tests find, and what it leaves behind."""
