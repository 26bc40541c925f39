"""Arms and seeds, computed in one process or on many machines."""
