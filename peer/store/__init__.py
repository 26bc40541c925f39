"""A node's store: one SQLite file, in parts; no other room speaks SQL."""
