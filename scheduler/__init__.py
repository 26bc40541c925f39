"""Who serves this request? A pure core: events in, actions out."""
