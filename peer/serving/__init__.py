"""The worker's half of an answer: its door, the conversation, the receipts."""
