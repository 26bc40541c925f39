"""The keys of a home, and the binding that they sign."""
