"""A step's arithmetic on torch: attention over pages, the decoder, the pinned sampler's twin."""
