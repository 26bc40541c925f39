"""What a worker says it did, what that costs, and who earns which part."""
