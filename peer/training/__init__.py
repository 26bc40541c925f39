"""From Datanets to a published adapter, and from adapters to a merged one."""
