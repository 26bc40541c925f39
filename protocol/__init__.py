"""The language of the network: what peers say, sign, hash and count. No I/O, no clocks, no randomness."""
