"""Research simulations that run the real scheduler and receipt arithmetic over modelled workers."""
