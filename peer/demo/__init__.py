"""The main job on one machine, as a story with chapters."""
