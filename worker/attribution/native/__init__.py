"""Passes of the reference model with one adapter, compiled: forwards, and backwards to the adapter alone."""
