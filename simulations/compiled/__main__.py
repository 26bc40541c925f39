"""`python -m commonlore.simulations.compiled`: compile the hot modules now, and say where they lie."""

from .switch import built

print(built())
