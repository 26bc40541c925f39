"""Content by its hash: on the disk, served, fetched."""
