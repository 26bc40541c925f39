"""Engines: continuous batching over one base model with an adapter per request, in a process of their own."""
