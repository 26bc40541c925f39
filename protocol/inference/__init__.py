"""A request's conversation between client and worker, and the pinned sampler."""
