"""Who said it: keys, EIP-712, bindings of keys, sealed records."""
