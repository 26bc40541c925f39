"""Who shaped an answer: scored, stated, checked, explained."""
