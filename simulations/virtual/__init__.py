"""Real peers in virtual time: the protocol, receipts and retries of a node, in memory."""
