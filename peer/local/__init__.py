"""Peers on this machine: as processes, as a network, reached, and what is wrong with it."""
