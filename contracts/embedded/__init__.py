"""A chain in a process of ours, from pip alone: its machine, its memory, its JSON-RPC."""
