"""Which contracts a network has, under which terms, and where they stand."""
