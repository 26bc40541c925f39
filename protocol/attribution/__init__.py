"""From an answer's vector to its contributors' weights, and from statements to a pool's division."""
