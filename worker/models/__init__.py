"""Base models on this machine: importing, converting once, and their manifests."""
