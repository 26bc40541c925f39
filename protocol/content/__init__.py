"""What is stored and named: manifests, rows, copies among them, withdrawals, lineage."""
