"""All wiring: libp2p, storage, the node, the client, settlement and the gateway."""
