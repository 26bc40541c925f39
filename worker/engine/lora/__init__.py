"""Adapters of an engine: packed in memory, in slots, and added to the base row by row."""
