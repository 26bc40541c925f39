"""The hot modules compiled ahead of time, from the very sources that run without it."""
