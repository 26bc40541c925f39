"""Between peers: the libp2p host, calls, gossip, and what is found and heard by them."""
