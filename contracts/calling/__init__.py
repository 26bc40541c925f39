"""The way to a contract: an endpoint, transactions without gaps, events read once, records as tuples."""
