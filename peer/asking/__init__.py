"""The client's half of an answer: which worker, how often, how long, and paid how."""
