"""A run of modelled workers and gateways with real schedulers, with money, adverts and receipts."""
