"""Events in order of time, and engines that are a few formulas."""
