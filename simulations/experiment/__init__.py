"""What an experiment is: its file, the keys it may set, its kind, and what is measured and drawn of it."""
