"""Hypothesis here is deterministic and without deadlines: a red test is red everywhere, a slow machine is
not."""

from hypothesis import settings

settings.register_profile("commonlore", derandomize=True, deadline=None, database=None)
settings.load_profile("commonlore")
