"""Budget files: YAML with places, the catalogue of files, lock files."""
