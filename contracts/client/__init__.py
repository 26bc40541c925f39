"""What an account does on a network's contracts, one by one; `chain.ChainClient` holds it together."""
