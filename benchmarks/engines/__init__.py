"""The parts of the serving benchmark: its arms, jobs, rows and campaigns."""
