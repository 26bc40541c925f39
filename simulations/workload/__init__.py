"""Who asks what, when and from where: drawn from a seed, or recorded."""
