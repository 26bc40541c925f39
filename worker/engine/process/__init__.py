"""An engine in a process of its own: what is said over its socket, from both ends."""
