"""The settlement contracts: Solidity in `src/`, committed artefacts, a typed chain client and the embedded
chain."""
