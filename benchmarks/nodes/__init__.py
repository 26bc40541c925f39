"""The parts of the path benchmark: nodes, bare engines and stations, each a process."""
