"""Money and records on the chain: lanes, bonds, deposits, claims, registrations."""
